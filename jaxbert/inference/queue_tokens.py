"""What a queue computes: texts, ids and pairs as tokens that are cut, with their numbers before."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from jaxbert.arguments import UNORDERED, array
from jaxbert.errors import InputError, InputTypeError, TextError, shown
from jaxbert.inference.outputs import LongTexts
from jaxbert.inference.pair_request import PairRequest
from jaxbert.inference.prefetch import WindowSize, spans
from jaxbert.inference.request import errors_numbered_from
from jaxbert.text.shortening import TOKENS_PER_CHARACTER
from jaxbert.text.tokenizer import Tokenizer

OnLong = Literal["truncate", "error"]
# What is tokenised at a time: others, and the event loop, may tokenise between two windows.
WINDOW = WindowSize(256, 2**16)
# Characters of a token, about: for what is not tokenised yet.
PER_TOKEN = 4
# Tokens up to which those of a text that is cut are counted; beyond, at least so many is known.
COUNTED = 2048


def about(characters: Sequence[int], most: int) -> list[int]:
    """The tokens, about, of texts that are not tokenised yet, and are cut to `most`."""
    return [min(number // PER_TOKEN, most) for number in characters]


def about_windows(characters: int, most: int) -> list[int]:
    """The tokens, about, of the windows of one text, each of up to `most`."""
    full, rest = divmod(characters // PER_TOKEN, most)
    return [most] * full + [rest]


def all_checked_ids(ids: Any, most: int) -> list[np.ndarray]:
    """The ids [t_i] of all texts; most is the number that one may have.

    Raises InputTypeError and TextError.
    """
    if isinstance(ids, UNORDERED) or not isinstance(ids, Iterable):
        raise InputTypeError(f"ids is {shown(ids)}; pass a list of ids for each text")
    try:
        rows = list(ids)
    except TypeError as error:  # an array without axes claims to be iterable
        raise InputTypeError("ids is an array without axes; pass one with an axis") from error
    return [checked_ids(i, row, most) for i, row in enumerate(rows)]


def checked_ids(text: int, ids: Any, most: int) -> np.ndarray:
    """The ids [t] of a text as int32. Raises InputTypeError and TextError."""
    found = array(ids, "ids")
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InputTypeError(f"the ids of text {text} are no list of integers")
    if not 0 < found.size <= most:
        raise TextError(text, f"has {found.size} ids; pass from 1 to {most} (max_seq_length)")
    if found.min() < 0 or found.max() >= 2**31:
        raise TextError(text, f"has the token id {found.min()}; ids begin with 0")
    return found.astype(np.int32)


def cut(
    tokenizer: Tokenizer, texts: Sequence[str], long: LongTexts
) -> tuple[list[np.ndarray], np.ndarray]:
    """(ids of each text, cut to long.most tokens; tokens [n] that each had before, as Answer says).

    Raises InputError for a text that is cut, where it says so.
    """
    tokens: list[np.ndarray] = []
    before: dict[int, int] = {}

    def note(first: int, i: int, count: int) -> None:
        before[first + i] = count
        if long.listens:
            long(first + i, count)

    for first, last in spans([len(text) for text in texts], WINDOW):
        with errors_numbered_from(first):
            window = tokenizer.beginnings(texts[first:last], max(2 * long.most, COUNTED))
            tokens += tokenizer(window, long.most, partial(note, first))
    return tokens, np.array([before.get(i, len(ids)) for i, ids in enumerate(tokens)], np.int32)


def check_whole(tokens: Sequence[np.ndarray], uncut: np.ndarray, most: int) -> None:
    """Raise InputError for the first pair that was cut; uncut [n] says what each had before."""
    for i, (ids, before) in enumerate(zip(tokens, uncut, strict=True)):
        if before > ids.shape[-1]:
            raise InputError(
                f"text {i} has {before} tokens, and the maximum is {most}, with those of the "
                'query; shorten it, or cut it with on_long="truncate"'
            )


def cut_pairs(
    request: PairRequest, query: str, documents: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """(tokens of the query with each document, cut; how many [n] each had before)."""
    tokenizer, first_text, most = request.tokenizer, request.prefix + query, request.most
    texts, counted = list(documents), max(2 * most, COUNTED)
    tokens: list[np.ndarray] = []
    # Else it would depend on what is left out which of the two is the longer one, that is cut.
    if len(first_text) * TOKENS_PER_CHARACTER <= counted:
        texts = tokenizer.beginnings(texts, counted)
    for first, last in spans([len(text) for text in texts], WINDOW):
        with errors_numbered_from(first):
            pairs = [(first_text, text) for text in texts[first:last]]
            tokens += tokenizer.pairs(pairs, most, request.typed)
    uncut = np.array([ids.shape[-1] for ids in tokens], np.int32)
    full = np.flatnonzero(uncut >= most)
    if full.size:
        one, *others = map(len, tokenizer([first_text, *(texts[i] for i in full)]))
        uncut[full] = one + np.array(others) + tokenizer.beside_pair
    return tokens, uncut
