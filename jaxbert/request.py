"""One call for vectors: what stands before texts, where they are cut; and how it is carried out."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from jaxbert.chunking import Parts, Window, spans_of
from jaxbert.chunking import windows as windows_of
from jaxbert.engine import Engine
from jaxbert.errors import InputError
from jaxbert.outputs import LongTexts, TokenEmbeddings
from jaxbert.runner import ahead, windows
from jaxbert.tokenizer import Tokenizer, Tokens

log = logging.getLogger(__name__)
Made = TypeVar("Made")

# Texts and characters that are chunked at a time: the states of their tokens are held.
TOGETHER = 256, 2**19


@dataclass(frozen=True)
class Request:
    """What a caller wants, checked; texts are numbered from 0."""

    engine: Engine
    tokenizer: Tokenizer
    prefix: str  # put before each text
    skipped: int  # tokens at the start of each text that are not pooled
    long: LongTexts  # with the maximum length
    batch_size: int | None
    show: bool  # a progress bar

    @contextmanager
    def counted(self, texts: int) -> Iterator[Callable[[int], object]]:
        """A function that is told of finished texts; in the end the engine's numbers are right."""
        start, before = time.perf_counter(), self.engine.stats
        try:
            with tqdm(total=texts, unit="text", disable=not self.show) as bar:
                yield bar.update
        finally:
            self.engine.tally.add(texts=texts, seconds=time.perf_counter() - start)
        log.info("%s", self.engine.stats - before)
        self.long.report()

    def tokenised(
        self, texts: list[str], tokenise: Callable[..., list[Made]]
    ) -> Iterator[list[Made]]:
        """What a method of the tokenizer makes of the texts, a window at a time, one ahead."""

        def of_window(window: tuple[int, Sequence[str]]) -> list[Made]:
            first, part = window
            return tokenise(
                [self.prefix + text for text in part],
                self.long.most,
                (lambda i, tokens: self.long(first + i, tokens)) if self.long.listens else None,
            )

        return ahead(of_window, list(windows(texts, len(self.prefix))))

    def vectors(self, texts: list[str], width: int) -> np.ndarray:
        """float32 [n, width], before anything is cut off or normalised."""
        found = np.zeros((len(texts), width), np.float32)
        tokens, skipped = self.tokenised(texts, self.tokenizer), np.array(self.skipped, np.int32)
        with self.counted(len(texts)) as done:
            program = self.engine.vectors
            for members, rows in self.engine.run(program, tokens, self.batch_size, skipped):
                found[members] = rows
                done(len(members))
        return found

    def tokens(self, texts: list[str]) -> list[TokenEmbeddings]:
        """The states of each text's tokens."""
        all_tokens: list[Tokens] = []

        def ids() -> Iterator[list[np.ndarray]]:
            for window in self.tokenised(texts, self.tokenizer.detailed):
                all_tokens.extend(window)
                yield [own.ids for own in window]

        found: dict[int, np.ndarray] = {}
        with self.counted(len(texts)) as done:
            for members, rows in self.engine.run(self.engine.states, ids(), self.batch_size):
                for text, row in zip(members, rows, strict=True):
                    found[int(text)] = row[: len(all_tokens[text].ids)].copy()
                done(len(members))
        return [self.described(found[i], own) for i, own in enumerate(all_tokens)]

    def pooled(self, tokens: list[TokenEmbeddings], width: int) -> np.ndarray:
        """The vectors [n, width] of texts whose states are there."""
        states, masks = [own.embeddings for own in tokens], [own.mask for own in tokens]
        return self.engine.pool(states, masks) if tokens else np.zeros((0, width), np.float32)

    def described(self, states: np.ndarray, tokens: Tokens) -> TokenEmbeddings:
        """The states of a text's tokens with what each token is."""
        mask = np.arange(len(tokens.ids)) >= self.skipped
        return TokenEmbeddings(states, tokens.ids, Parts.of(tokens, len(self.prefix)).offsets, mask)

    def chunks(self, texts: list[str], chunks: Any, overlap: int, width: int) -> list[np.ndarray]:
        """float32 [c_i, width] for the c_i parts of text i."""
        spans = [spans_of(i, text, chunks) for i, text in enumerate(texts)]
        found: list[np.ndarray] = []
        with self.counted(len(texts)) as done:
            for first, group in windows(texts, len(self.prefix), TOGETHER):
                prefixed = [self.prefix + text for text in group]
                parts = [
                    Parts.of(tokens, len(self.prefix))
                    for tokens in self.tokenizer.detailed(prefixed)
                ]
                for i, states in enumerate(self.whole(parts, overlap), start=first):
                    found.append(self.of_spans(i, parts[i - first], states, spans[i], width))
                done(len(group))
        return found

    def whole(self, parts: list[Parts], overlap: int) -> list[np.ndarray]:
        """The states [t, d] of all tokens of each text, from as many windows as it needs."""
        cut = [list(windows_of(own, self.long.most, overlap)) for own in parts]
        flat: list[tuple[int, Window]] = [(i, one) for i, own in enumerate(cut) for one in own]
        width = self.engine.encoder.config.hidden_size
        states = [np.zeros((len(own.tokens.ids), width), np.float32) for own in parts]
        ids = [[window.ids for _, window in flat]]
        for members, rows in self.engine.run(self.engine.states, ids, self.batch_size):
            for member, row in zip(members, rows, strict=True):
                text, window = flat[member]
                window.place(row, states[text])
        return states

    def of_spans(
        self, text: int, parts: Parts, states: np.ndarray, spans: np.ndarray, width: int
    ) -> np.ndarray:
        """One vector per span of a text."""
        members = [parts.members(span) for span in spans]
        masks = [own >= self.skipped for own in members]
        for chunk, mask in enumerate(masks):
            if not mask.any():
                start, stop = spans[chunk]
                raise InputError(
                    f"chunk {chunk} of text {text}, characters {start} to {stop}, holds the start "
                    "of no token; make it longer or leave it out"
                )
        if not members:
            return np.zeros((0, width), np.float32)
        return self.engine.pool([states[own] for own in members], masks)
