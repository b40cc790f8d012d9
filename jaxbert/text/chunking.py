"""Late chunking: one pass over a long text, then a vector for each of its chunks.

The vector of a chunk is pooled from token states that were computed with the text around it.
Source: Guenther et al., arXiv:2409.04701, which also has the windows for longer texts.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxbert.errors import InputError, InputTypeError
from jaxbert.text.tokenizer import Tokens

Span = tuple[int, int]  # first character, and the one behind the last
Chunker = Callable[[str], Sequence[Span]]

# The most tokens that neighbouring windows share by default.
OVERLAP = 256


def checked_spans(text: int, length: int, spans: Any) -> np.ndarray:
    """The spans [c, 2] of a text of `length` characters, in order; they may overlap and leave gaps.

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
class TokenSpans:
    """Where in its tokens a text begins and ends: after special tokens and prompt, before more."""

    tokens: Tokens
    prompt: int  # characters of the prompt
    length: int  # characters of the text
    first: int  # the first token of the text itself
    stop: int  # the one behind its last

    @classmethod
    def of(cls, tokens: Tokens, prompt: int, length: int | None = None) -> "TokenSpans":
        """The spans of a text of `length` characters after a prompt of `prompt` characters.

        A token without a character, such as the space that a tokenizer puts in front, belongs to
        the text unless the prompt ends after it. Without a length the text ends with its tokens.
        """
        from_text = np.flatnonzero(~tokens.special)
        first = stop = min(1, len(tokens.ids))
        if from_text.size:
            stop = int(from_text[-1]) + 1
            if prompt:
                from_text = from_text[tokens.offsets[from_text, 1] > prompt]
            first = int(from_text[0]) if from_text.size else stop
        if length is None:
            length = max(int(tokens.offsets[first:stop, 1].max(initial=prompt)) - prompt, 0)
        return cls(tokens, prompt, length, first, stop)

    @property
    def offsets(self) -> np.ndarray:
        """[t, 2]: first character and end of each token, without the prompt; 0, 0 outside."""
        index = np.arange(len(self.tokens.ids))
        inside = (index >= self.first) & (index < self.stop)
        return np.where(inside[:, None], np.maximum(self.tokens.offsets - self.prompt, 0), 0)

    @cached_property
    def begins(self) -> np.ndarray:
        """The character where each token of the text begins, never before the previous one.

        A token after the text's last character begins with that character. In int64, as spans are:
        a search in numbers of another type would copy them all for each part.
        """
        begins = self.offsets[self.first : self.stop, 0].astype(np.int64)
        return np.minimum(np.maximum.accumulate(begins), max(self.length - 1, 0))

    def members(self, span: np.ndarray) -> np.ndarray:
        """The indices of the tokens that belong to a span of characters: those that begin in it.

        Tokens before the text go with its first token, those after it with its last; all tokens
        go with a span over the whole text, even if the text has none of its own.
        """
        if span[0] == 0 and span[1] >= self.length:
            return np.arange(len(self.tokens.ids))
        first, stop = (self.first + np.searchsorted(self.begins, span)).tolist()
        if first < stop:
            first = 0 if first == self.first else first
            stop = len(self.tokens.ids) if stop == self.stop else stop
        return np.arange(first, stop)


@dataclass(frozen=True)
class TokenWindow:
    """A range of a text's own tokens, which runs with all tokens before and after the text."""

    text: TokenSpans
    first: int
    stop: int
    keep: tuple[int, int]  # first and end of the tokens whose states are taken from this window

    @property
    def ids(self) -> np.ndarray:
        """The ids [u] of the window: special tokens and prompt, its range, special tokens."""
        ids, text = self.text.tokens.ids, self.text
        return np.concatenate([ids[: text.first], ids[self.first : self.stop], ids[text.stop :]])

    def copy_states(self, states: np.ndarray, into: np.ndarray) -> None:
        """Copy the states of the tokens to keep from this window's [u, d] to the text's [t, d]."""
        text, (begin, end) = self.text, self.keep
        shift = text.first - self.first
        into[begin:end] = states[begin + shift : end + shift]
        if self.first == text.first:
            into[: text.first] = states[: text.first]
        if self.stop == text.stop:
            after = text.first + self.stop - self.first
            into[text.stop :] = states[after : after + len(into) - text.stop]


def token_windows(text: TokenSpans, most: int, overlap: int | None) -> Iterator[TokenWindow]:
    """Windows of at most `most` tokens; neighbours share `overlap` tokens of the text.

    overlap None is half of a window's room, at most OVERLAP. The state of a token comes from the
    window in which it is farther from the edge.
    """
    room = most - text.first - (len(text.tokens.ids) - text.stop)
    if text.stop - text.first <= room:
        yield TokenWindow(text, text.first, text.stop, (text.first, text.stop))
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
    starts = [*range(text.first, text.stop - room, room - overlap), text.stop - room]
    begin = text.first
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        stop = start + room
        end = text.stop if following is None else (following + stop + 1) // 2
        yield TokenWindow(text, start, stop, (begin, end))
        begin = end


def of_tokens(tokens: Tokens, size: int, length: int | None = None) -> list[Span]:
    """Spans of `size` tokens each, the last one shorter; each ends where the next begins.

    They cover a text of `length` characters; without a length it ends with its last token. Tokens
    that begin with the same character (bytes, pieces of an emoji) stay together.
    """
    text = TokenSpans.of(tokens, 0, length)
    begins = text.begins
    starts = sorted({0, *(int(start) for start in begins[size::size] if start > begins[0])})
    return list(zip(starts, [*starts[1:], text.length], strict=True)) if text.length else []


def spans_of(i: int, text: str, chunks: Any) -> np.ndarray:
    """The checked spans [c, 2] of text i: chunks(text) for a function, else chunks[i]."""
    return checked_spans(i, len(text), chunks(text) if callable(chunks) else chunks[i])


def check_chunks(chunks: Any, texts: int) -> None:
    """Raise unless chunks is a function, or a sequence with a list of spans for each text."""
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
