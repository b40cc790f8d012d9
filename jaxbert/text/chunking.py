"""Late chunking: one pass over a long text, then a vector for each of its parts.

A part's vector is pooled from token states that have seen the whole text.
Source: Guenther et al., arXiv:2409.04701, which also has the windows for longer texts.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.errors import InputError, InputTypeError
from jaxbert.text.tokenizer import Tokens

Span = tuple[int, int]  # first character, and the one behind the last
Chunker = Callable[[str], Sequence[Span]]

# The most tokens that windows share where a caller does not say.
OVERLAP = 256


def checked_spans(text: int, length: int, spans: Any) -> np.ndarray:
    """The spans [c, 2] of a text of so many characters, in order; they may overlap and leave gaps.

    Raises InputError for a span that is empty, outside the text, or does not begin and end behind
    the one before.
    """
    try:
        pairs = [tuple(map(operator.index, span)) for span in spans]
    except TypeError as error:
        raise InputTypeError(f"the chunks of text {text} are no pairs of integers") from error
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"a chunk of text {text} is no pair (start, stop) of characters")
    for chunk, (start, stop) in enumerate(pairs):
        where = f"chunk {chunk} of text {text}, characters {start} to {stop},"
        if not 0 <= start < stop <= length:
            raise InputError(f"{where} is empty or outside the text, which has {length}")
        if chunk and not (pairs[chunk - 1][0] < start and pairs[chunk - 1][1] < stop):
            raise InputError(
                f"{where} does not begin and end behind the chunk before it; sort the chunks, and "
                "put none inside another"
            )
    return np.array(pairs, np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Parts:
    """A tokenised text: special tokens and prompt before it, its own tokens, special ones after."""

    tokens: Tokens
    prompt: int  # characters of the prompt
    length: int  # characters of the text
    first: int  # the first token of the text itself
    stop: int  # the one behind its last

    @classmethod
    def of(cls, tokens: Tokens, prompt: int, length: int | None = None) -> "Parts":
        """Find the own tokens of a text of so many characters, behind a prompt of so many.

        A token without a character, such as the space that a tokenizer puts in front, belongs to
        the text unless the prompt ends behind it. Without a length the text ends with its tokens.
        """
        told = np.flatnonzero(~tokens.special)
        first = stop = min(1, len(tokens.ids))
        if told.size:
            stop = int(told[-1]) + 1
            own = told[tokens.offsets[told, 1] > prompt] if prompt else told
            first = int(own[0]) if own.size else stop
        if length is None:
            length = max(int(tokens.offsets[first:stop, 1].max(initial=prompt)) - prompt, 0)
        return cls(tokens, prompt, length, first, stop)

    @property
    def offsets(self) -> np.ndarray:
        """Where in the text without its prompt each token lies; 0, 0 outside it."""
        inside = np.arange(len(self.tokens.ids))
        own = (inside >= self.first) & (inside < self.stop)
        return np.where(own[:, None], np.maximum(self.tokens.offsets - self.prompt, 0), 0)

    @property
    def begins(self) -> np.ndarray:
        """The character in which each of the text's own tokens begins, never before the last one's.

        A token without a character, behind the text's last, begins with that.
        """
        begins = self.offsets[self.first : self.stop, 0]
        return np.minimum(np.maximum.accumulate(begins), max(self.length - 1, 0))

    def members(self, span: np.ndarray) -> np.ndarray:
        """The tokens that belong to a part of the text: those that begin in it.

        What stands before the text goes with its first token, what stands after it with its last;
        all there is goes with a part over the whole text, even if it has no token of its own.
        """
        if span[0] == 0 and span[1] >= self.length:
            return np.arange(len(self.tokens.ids))
        own = self.first + np.flatnonzero((self.begins >= span[0]) & (self.begins < span[1]))
        if own.size and own[0] == self.first:
            own = np.concatenate([np.arange(self.first), own])
        if own.size and own[-1] == self.stop - 1:
            own = np.concatenate([own, np.arange(self.stop, len(self.tokens.ids))])
        return own


@dataclass(frozen=True)
class Window:
    """A stretch of a text's own tokens that runs with what stands before and after the text."""

    parts: Parts
    first: int
    stop: int
    keep: Span  # the tokens whose states are taken from this window

    @property
    def ids(self) -> np.ndarray:
        """What runs."""
        ids, parts = self.parts.tokens.ids, self.parts
        own = ids[self.first : self.stop]
        return np.concatenate([ids[: parts.first], own, ids[parts.stop :]])

    def place(self, states: np.ndarray, into: np.ndarray) -> None:
        """Copy the states of the tokens to keep from this window's [u, d] to the text's [t, d]."""
        parts, (begin, end) = self.parts, self.keep
        shift = parts.first - self.first
        into[begin:end] = states[begin + shift : end + shift]
        if self.first == parts.first:
            into[: parts.first] = states[: parts.first]
        if self.stop == parts.stop:
            after = parts.first + self.stop - self.first
            into[parts.stop :] = states[after : after + len(into) - parts.stop]


def windows(parts: Parts, most: int, overlap: int | None) -> Iterator[Window]:
    """Windows of at most so many tokens; neighbours share `overlap` tokens of the text.

    None is half of a window's room, at most OVERLAP. Each token's states come from the window in
    which it is farther from the edge.
    """
    room = most - parts.first - (len(parts.tokens.ids) - parts.stop)
    if parts.stop - parts.first <= room:
        yield Window(parts, parts.first, parts.stop, (parts.first, parts.stop))
        return
    if room < 1:
        raise InputError(
            f"a window of {most} tokens has no room beside the prompt and the special tokens; "
            "shorten the prompt, or raise max_length"
        )
    if overlap is None:
        overlap = min(OVERLAP, room // 2)
    if overlap >= room:
        raise InputError(
            f"overlap is {overlap}, but a window of {most} tokens has room for {room} of the text; "
            "lower it"
        )
    starts = [*range(parts.first, parts.stop - room, room - overlap), parts.stop - room]
    begin = parts.first
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        stop = start + room
        end = parts.stop if following is None else (following + stop + 1) // 2
        yield Window(parts, start, stop, (begin, end))
        begin = end


def of_tokens(tokens: Tokens, size: int, length: int | None = None) -> list[Span]:
    """Spans of `size` tokens each, the last one shorter; from the start of one to that of the next.

    They cover a text of so many characters; without a length it ends with its last token. Tokens
    that begin with the same character (bytes, pieces of an emoji) stay together.
    """
    parts = Parts.of(tokens, 0, length)
    begins = parts.begins
    starts = sorted({0, *(int(own) for own in begins[size::size] if own > begins[0])})
    return list(zip(starts, [*starts[1:], parts.length], strict=True)) if parts.length else []


def spans_of(i: int, text: str, chunks: Any) -> np.ndarray:
    """The spans of text i: what the chunker says, or its own of a list of lists."""
    return checked_spans(i, len(text), chunks(text) if callable(chunks) else chunks[i])


def check_chunks(chunks: Any, texts: int) -> None:
    """A callable, or one list of spans for each text."""
    if callable(chunks):
        return
    if isinstance(chunks, str | bytes | Mapping) or not (
        isinstance(chunks, Sequence) or (isinstance(chunks, np.ndarray) and chunks.ndim)
    ):
        raise InputTypeError(
            f"chunks is a {type(chunks).__name__}; pass a list of spans for each text, or a "
            "function from a text to its spans"
        )
    if len(chunks) != texts:
        raise InputError(f"there are {texts} texts, but {len(chunks)} lists of chunks")
