"""One call for vectors: what stands before texts, where they are cut; and how it is carried out."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from jaxbert.errors import TextError
from jaxbert.inference.engine import Engine
from jaxbert.inference.outputs import Finish, LongTexts, OnEmpty, TokenEmbeddings, check_on_empty
from jaxbert.inference.prefetch import WindowSize, prefetched, text_windows
from jaxbert.text.chunking import Parts, Window, spans_of, windows
from jaxbert.text.tokenizer import Tokenizer, Tokens

log = logging.getLogger(__name__)
Made = TypeVar("Made")

# Texts and characters that are chunked at a time: the states of their tokens are held.
TOGETHER = WindowSize(256, 2**19)


@dataclass(frozen=True)
class Request:
    """What a caller wants, checked; texts are numbered from 0."""

    engine: Engine[Any]
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
            self.engine.counter.add(texts=texts, seconds=time.perf_counter() - start)
        log.info("%s", self.engine.stats - before)
        self.long.report()

    def tokenised(
        self, texts: list[str], tokenise: Callable[..., list[Made]]
    ) -> Iterator[list[Made]]:
        """What a method of the tokenizer makes of the texts, a window at a time, one ahead."""

        def of_window(window: tuple[int, Sequence[str]]) -> list[Made]:
            first, part = window
            with numbered_from(first):
                return tokenise(
                    [self.prefix + text for text in part],
                    self.long.most,
                    (lambda i, tokens: self.long(first + i, tokens)) if self.long.listens else None,
                )

        return prefetched(of_window, list(text_windows(texts, len(self.prefix))))

    def vectors(self, texts: list[str]) -> np.ndarray:
        """float32 [n, width], before anything is cut off or normalised."""
        vectors = np.zeros((len(texts), self.engine.width), np.float32)
        tokens, skipped = self.tokenised(texts, self.tokenizer), np.array(self.skipped, np.int32)
        with self.counted(len(texts)) as done:
            program = self.engine.vectors
            for members, rows in self.engine.run(program, tokens, self.batch_size, skipped):
                vectors[members] = rows
                done(len(members))
        return vectors

    def tokens(self, texts: list[str]) -> list[TokenEmbeddings]:
        """The states of each text's tokens."""
        all_tokens: list[Tokens] = []

        def ids() -> Iterator[list[np.ndarray]]:
            for window in self.tokenised(texts, self.tokenizer.detailed):
                all_tokens.extend(window)
                yield [own.ids for own in window]

        states: dict[int, np.ndarray] = {}
        with self.counted(len(texts)) as done:
            for members, rows in self.engine.run(self.engine.states, ids(), self.batch_size):
                for text, row in zip(members, rows, strict=True):
                    states[int(text)] = row[: len(all_tokens[text].ids)].copy()
                done(len(members))
        return [self.described(states[i], own) for i, own in enumerate(all_tokens)]

    def pooled(self, tokens: list[TokenEmbeddings]) -> np.ndarray:
        """The vectors [n, width] of texts whose states are there."""
        if not tokens:
            return np.zeros((0, self.engine.width), np.float32)
        return self.engine.pool([own.embeddings for own in tokens], [own.mask for own in tokens])

    def described(self, states: np.ndarray, tokens: Tokens) -> TokenEmbeddings:
        """The states of a text's tokens with what each token is."""
        mask = np.arange(len(tokens.ids)) >= self.skipped
        return TokenEmbeddings(states, tokens.ids, Parts.of(tokens, len(self.prefix)).offsets, mask)

    def chunks(
        self,
        texts: list[str],
        chunks: Any,
        finish: Finish,
        overlap: int | None,
        on_empty: OnEmpty,
    ) -> list[np.ndarray]:
        """The finished vectors [c_i, w] of the c_i parts of text i."""
        check_on_empty(on_empty, finish)
        spans = [spans_of(i, text, chunks) for i, text in enumerate(texts)]
        vectors = [np.zeros((0, self.engine.width), np.float32)]
        with self.counted(len(texts)) as done:
            for first, group in text_windows(texts, len(self.prefix), TOGETHER):
                prefixed = [self.prefix + text for text in group]
                with numbered_from(first):
                    tokens = self.tokenizer.detailed(prefixed)
                parts = [
                    Parts.of(own, len(self.prefix), len(text))
                    for own, text in zip(tokens, group, strict=True)
                ]
                for i, states in enumerate(self.whole_states(parts, overlap), start=first):
                    members = [parts[i - first].members(span) for span in spans[i]]
                    if on_empty == "error":
                        self.check_full(i, spans[i], members)
                    vectors.append(self.of_parts(states, members))
                done(len(group))
        ends = np.cumsum([len(own) for own in vectors])
        return np.split(finish(np.concatenate(vectors)), ends[:-1])[1:]

    def whole_states(self, parts: list[Parts], overlap: int | None) -> list[np.ndarray]:
        """The states [t, d] of all tokens of each text, from as many windows as it needs."""
        cut = [list(windows(own, self.long.most, overlap)) for own in parts]
        flat: list[tuple[int, Window]] = [(i, one) for i, own in enumerate(cut) for one in own]
        width = self.engine.encoder.config.hidden_size
        states = [np.zeros((len(own.tokens.ids), width), np.float32) for own in parts]
        ids = [[window.ids for _, window in flat]]
        for members, rows in self.engine.run(self.engine.states, ids, self.batch_size):
            for member, row in zip(members, rows, strict=True):
                text, window = flat[member]
                window.place(row, states[text])
        return states

    def check_full(self, text: int, spans: np.ndarray, members: list[np.ndarray]) -> None:
        """Refuse a part that has no token to be pooled."""
        for chunk, own in enumerate(members):
            if not (own >= self.skipped).any():
                start, stop = spans[chunk]
                raise TextError(
                    text,
                    f"has no token that begins in its chunk {chunk}, characters {start} to {stop}; "
                    'make it longer, leave it out, or pass on_empty="nan" for a row of NaN',
                )

    def of_parts(self, states: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
        """One vector [width] for each part of a text, of its tokens' states; NaN without any."""
        vectors = np.full((len(members), self.engine.width), np.nan, np.float32)
        full = [i for i, own in enumerate(members) if (own >= self.skipped).any()]
        if full:
            parts = [members[i] for i in full]
            masks = [own >= self.skipped for own in parts]
            vectors[full] = self.engine.pool([states[own] for own in parts], masks)
        return vectors


@contextmanager
def numbered_from(first: int) -> Iterator[None]:
    """Texts that an error inside names by their place in a window are named by that among all."""
    try:
        yield
    except TextError as error:
        raise TextError(first + error.text, error.reason) from error
