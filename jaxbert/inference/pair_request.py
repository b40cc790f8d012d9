"""One call of predict or rank: its checked arguments, and its work."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxbert.errors import CheckpointError
from jaxbert.inference.engine import Engine
from jaxbert.inference.prefetch import WINDOW, prefetched, spans
from jaxbert.inference.programs import AnyProgram
from jaxbert.inference.request import errors_numbered_from
from jaxbert.inference.scoring import Pair
from jaxbert.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairRequest:
    """The checked arguments of one call; pairs are numbered from 0."""

    engine: Engine[Any]
    scores: AnyProgram  # from a batch to logits [b, labels]
    labels: int
    tokenizer: Tokenizer
    typed: bool  # the second text of a pair has token type 1
    prefix: str  # put before each first text
    most: int  # tokens of a pair, special ones included
    batch_size: int | None
    show: bool  # a progress bar

    def logits(self, pairs: list[Pair]) -> np.ndarray:
        """The logits [n, labels] of checked pairs, in float32."""
        start, before = time.perf_counter(), self.engine.stats
        found = np.zeros((len(pairs), self.labels), np.float32)
        try:
            with tqdm(total=len(pairs), unit="pair", disable=not self.show) as bar:
                tokens = pair_windows(self.tokenizer, pairs, self.prefix, self.most, self.typed)
                for members, rows in self.engine.run(self.scores, tokens, self.batch_size):
                    found[members] = rows
                    bar.update(len(members))
        finally:
            seconds = time.perf_counter() - start
            self.engine.counter.add(texts=len(pairs), seconds=seconds)
        log.info("%s", self.engine.stats - before)
        return found


def pair_windows(
    tokenizer: Tokenizer, pairs: list[Pair], prefix: str, most: int, typed: bool
) -> Iterator[list[np.ndarray]]:
    """The tokens of the pairs, a window at a time, the next while the device computes."""

    def of_window(window: tuple[int, int]) -> list[np.ndarray]:
        part = [(prefix + a, b) for a, b in pairs[slice(*window)]]
        with errors_numbered_from(window[0]):
            return tokenizer.pairs(part, most, typed)

    sizes = [len(prefix) + len(a) + len(b) for a, b in pairs]
    return prefetched(of_window, list(spans(sizes, WINDOW)))


def check_labels(labels: Sequence[str], scores: int) -> None:
    """Raise CheckpointError unless there are as many labels as a head gives scores."""
    if len(labels) != scores:
        raise CheckpointError(
            f"the head gives {scores} scores, and the settings have {len(labels)} labels; pass a "
            "label for each score"
        )


def typed_pairs(tokenizer: Tokenizer, types: int) -> bool:
    """Whether the second text of a pair has type 1; the model has so many types.

    A model without token types (0) takes none, whatever its tokenizer gives, as in transformers.
    Raises CheckpointError where the model has no type 1.
    """
    typed = tokenizer.typed and types > 0
    if typed and types < 2:
        raise CheckpointError(
            "the tokenizer gives the second text of a pair type 1, but the model has one type: "
            "they are of different models"
        )
    return typed
