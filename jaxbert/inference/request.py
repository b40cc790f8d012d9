"""One call of encode, encode_tokens or encode_chunks: its checked arguments, and its work."""

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
from jaxbert.text.chunking import TokenSpans, TokenWindow, spans_of, token_windows
from jaxbert.text.tokenizer import Tokenizer, Tokens

log = logging.getLogger(__name__)
Tokenised = TypeVar("Tokenised")

# Texts and characters that are chunked at a time: the states of all their tokens are in memory.
CHUNKED_WINDOW = WindowSize(256, 2**19)


@dataclass(frozen=True)
class Request:
    """The checked arguments of one call; texts are numbered from 0."""

    engine: Engine[Any]
    tokenizer: Tokenizer
    prefix: str  # put before each text
    skipped: int  # tokens at the start of each text that are not pooled
    long: LongTexts  # with the maximum length
    batch_size: int | None
    show: bool  # a progress bar

    @contextmanager
    def counted(self, texts: int) -> Iterator[Callable[[int], object]]:
        """A function to call with the number of texts finished; updates progress bar and stats."""
        start, before = time.perf_counter(), self.engine.stats
        try:
            with tqdm(total=texts, unit="text", disable=not self.show) as bar:
                yield bar.update
        finally:
            self.engine.counter.add(texts=texts, seconds=time.perf_counter() - start)
        log.info("%s", self.engine.stats - before)
        self.long.report()

    def tokenised(
        self, texts: list[str], tokenise: Callable[..., list[Tokenised]]
    ) -> Iterator[list[Tokenised]]:
        """The results of a tokenizer's method for each window of texts, computed one ahead."""

        def of_window(window: tuple[int, Sequence[str]]) -> list[Tokenised]:
            first, in_window = window
            with errors_numbered_from(first):
                return tokenise(
                    [self.prefix + text for text in in_window],
                    self.long.most,
                    (lambda i, tokens: self.long(first + i, tokens)) if self.long.listens else None,
                )

        return prefetched(of_window, list(text_windows(texts, len(self.prefix))))

    def vectors(self, texts: list[str]) -> np.ndarray:
        """The vectors [n, width] of all texts in float32, before Finish."""
        vectors = np.zeros((len(texts), self.engine.width), np.float32)
        tokens, skipped = self.tokenised(texts, self.tokenizer), np.array(self.skipped, np.int32)
        with self.counted(len(texts)) as done:
            program = self.engine.vectors
            for members, rows in self.engine.run(program, tokens, self.batch_size, skipped):
                vectors[members] = rows
                done(len(members))
        return vectors

    def tokens(self, texts: list[str]) -> list[TokenEmbeddings]:
        """The TokenEmbeddings of each text: states, ids, offsets and pooling mask."""
        all_tokens: list[Tokens] = []

        def ids() -> Iterator[list[np.ndarray]]:
            for window in self.tokenised(texts, self.tokenizer.detailed):
                all_tokens.extend(window)
                yield [tokens.ids for tokens in window]

        states: dict[int, np.ndarray] = {}
        with self.counted(len(texts)) as done:
            for members, rows in self.engine.run(self.engine.states, ids(), self.batch_size):
                for text, row in zip(members, rows, strict=True):
                    states[int(text)] = row[: len(all_tokens[text].ids)].copy()
                done(len(members))
        return [self.described(states[i], tokens) for i, tokens in enumerate(all_tokens)]

    def pooled(self, tokens: list[TokenEmbeddings]) -> np.ndarray:
        """The vectors [n, width] of texts whose states have been computed."""
        if not tokens:
            return np.zeros((0, self.engine.width), np.float32)
        return self.engine.pool([x.embeddings for x in tokens], [x.mask for x in tokens])

    def described(self, states: np.ndarray, tokens: Tokens) -> TokenEmbeddings:
        """The states [t, d] of a text's tokens, with their ids, offsets and pooling mask."""
        mask = np.arange(len(tokens.ids)) >= self.skipped
        offsets = TokenSpans.of(tokens, len(self.prefix)).offsets
        return TokenEmbeddings(states, tokens.ids, offsets, mask)

    def chunks(
        self,
        texts: list[str],
        chunks: Any,
        finish: Finish,
        overlap: int | None,
        on_empty: OnEmpty,
    ) -> list[np.ndarray]:
        """The finished vectors [c_i, w] of the c_i chunks of each text i."""
        check_on_empty(on_empty, finish)
        spans = [spans_of(i, text, chunks) for i, text in enumerate(texts)]
        vectors = [np.zeros((0, self.engine.width), np.float32)]
        with self.counted(len(texts)) as done:
            for first, group in text_windows(texts, len(self.prefix), CHUNKED_WINDOW):
                prefixed = [self.prefix + text for text in group]
                with errors_numbered_from(first):
                    tokens = self.tokenizer.detailed(prefixed)
                tokenised = [
                    TokenSpans.of(text_tokens, len(self.prefix), len(text))
                    for text_tokens, text in zip(tokens, group, strict=True)
                ]
                for i, states in enumerate(self.all_states(tokenised, overlap), start=first):
                    members = [tokenised[i - first].members(span) for span in spans[i]]
                    if on_empty == "error":
                        self.check_not_empty(i, spans[i], members)
                    vectors.append(self.of_chunks(states, members))
                done(len(group))
        ends = np.cumsum([len(rows) for rows in vectors])
        return np.split(finish(np.concatenate(vectors)), ends[:-1])[1:]

    def all_states(self, texts: list[TokenSpans], overlap: int | None) -> list[np.ndarray]:
        """The states [t, d] of all tokens of each text, from as many windows as it needs."""
        windows: list[tuple[int, TokenWindow]] = [
            (i, window)
            for i, text in enumerate(texts)
            for window in token_windows(text, self.long.most, overlap)
        ]
        width = self.engine.encoder.config.hidden_size
        states = [np.zeros((len(text.tokens.ids), width), np.float32) for text in texts]
        ids = [[window.ids for _, window in windows]]
        for members, rows in self.engine.run(self.engine.states, ids, self.batch_size):
            for member, row in zip(members, rows, strict=True):
                text, window = windows[member]
                window.copy_states(row, states[text])
        return states

    def check_not_empty(self, text: int, spans: np.ndarray, members: list[np.ndarray]) -> None:
        """Raise TextError for a chunk without a token to pool."""
        for chunk, tokens in enumerate(members):
            if not (tokens >= self.skipped).any():
                start, stop = spans[chunk]
                raise TextError(
                    text,
                    f"has no token that begins in its chunk {chunk}, characters {start} to {stop}; "
                    'make it longer, leave it out, or pass on_empty="nan" for a row of NaN',
                )

    def of_chunks(self, states: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
        """The vectors [c, width] of a text's chunks, pooled from states; NaN without a token."""
        vectors = np.full((len(members), self.engine.width), np.nan, np.float32)
        pooled = [i for i, tokens in enumerate(members) if (tokens >= self.skipped).any()]
        if pooled:
            masks = [members[i] >= self.skipped for i in pooled]
            vectors[pooled] = self.engine.pool([states[members[i]] for i in pooled], masks)
        return vectors


@contextmanager
def errors_numbered_from(first: int) -> Iterator[None]:
    """A context in which a TextError's index in a window becomes the index among all texts."""
    try:
        yield
    except TextError as error:
        raise TextError(first + error.text, error.reason) from error
