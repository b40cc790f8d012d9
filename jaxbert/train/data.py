"""Texts -> rows of token ids, and rows -> the arrays of a batch.

Three kinds of data sets: windows to mask words in, pairs of texts, texts with a teacher's vectors.
The names of a batch's arrays are those that objectives.py reads.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import tokenizers

from jaxbert.errors import InputError
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.masking import FEWEST
from jaxbert.train.ragged import Ragged
from jaxbert.train.texts import OnBadRow, Texts

Arrays = dict[str, np.ndarray]  # with the leading axis b

# Texts that are tokenised together.
TOGETHER = 256


class Data(Protocol):
    """Rows that a batch can be made of."""

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of the longest text of each row, [n]."""

    @property
    def sha256(self) -> str:
        """The sum of all that is trained on."""

    def tokens(self, rows: np.ndarray) -> int:
        """How many tokens these rows have, padding not counted."""

    def batch(self, rows: np.ndarray, length: int) -> Arrays:
        """The arrays of these rows, whose texts are filled up to this length."""


def sum_of(*parts: Ragged | np.ndarray) -> str:
    """The SHA-256 of rows and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Ragged):
            part.add_to(digest)
        else:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


def groups(texts: Iterable[Texts]) -> Iterator[list[Texts]]:
    """The texts by TOGETHER, the last ones less."""
    left = iter(texts)
    while some := list(islice(left, TOGETHER)):
        yield some


def text_arrays(ids: Ragged, rows: np.ndarray, length: int, what: str = "") -> Arrays:
    """ids and segments [b, t], int32; segments are 1 where there is a token, and 0 for padding."""
    segments = ids.mask(rows, length).astype(np.int32)
    return {f"{what}ids": ids.filled(rows, length, 0), f"{what}segments": segments}


# --- windows for masked words ---------------------------------------------------------------------


class Window(NamedTuple):
    """Some tokens of a text between its special ones."""

    ids: np.ndarray  # [t] int32
    words: np.ndarray  # [t] int32: the word of each token, from 0; -1 for special tokens


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of texts, each with the word of every token."""

    ids: Ragged
    words: Ragged

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each window, [n]."""
        return self.ids.lengths

    @cached_property
    def sha256(self) -> str:
        """The sum of ids and words."""
        return sum_of(self.ids, self.words)

    def tokens(self, rows: np.ndarray) -> int:
        """How many tokens these windows have."""
        return int(self.lengths[rows].sum())

    def batch(self, rows: np.ndarray, length: int) -> Arrays:
        """ids, segments and words, each [b, t]; words is -1 for padding too."""
        return text_arrays(self.ids, rows, length) | {"words": self.words.filled(rows, length, -1)}


def windows(
    texts: Iterable[Texts], tokenizer: Tokenizer, length: int, bad: OnBadRow | None = None
) -> Windows:
    """Every text cut into windows of `length` tokens, special ones at both ends of each.

    The last window of a text is what is left, unless that is less than FEWEST tokens. A text with
    less than FEWEST tokens of its own is a bad row, since nothing could be told of a masked one.
    """
    bad = OnBadRow() if bad is None else bad
    found = list(cut(texts, tokenizer, length, bad))
    return Windows(Ragged.of(w.ids for w in found), Ragged.of(w.words for w in found))


def cut(
    texts: Iterable[Texts], tokenizer: Tokenizer, length: int, bad: OnBadRow
) -> Iterator[Window]:
    """The windows of each text, one text after another."""
    for some in groups(texts):
        encode = tokenizer.backend.encode_batch  # the fast one knows no words
        for text, encoding in zip(
            some, tokenizer.encodings(encode, [own.text for own in some], None, None), strict=True
        ):
            own = encoding.special_tokens_mask.count(0)
            if own < FEWEST:
                bad(text.where, f"has {own} tokens, and masking needs {FEWEST}")
            else:
                yield from of_text(encoding, length)


def of_text(encoding: tokenizers.Encoding, length: int) -> Iterator[Window]:
    """The windows of one text; InputError where there is no room beside the special tokens."""
    special = np.array(encoding.special_tokens_mask, bool)
    before, behind = int(special.argmin()), int(special[::-1].argmin())
    room = length - before - behind
    if room < FEWEST:
        raise InputError(
            f"the length is {length}, which leaves room for {max(room, 0)} tokens beside "
            f"{before + behind} special ones; masking needs {FEWEST}"
        )
    ids = np.array(encoding.ids, np.int32)
    stop = len(ids) - behind
    for start in range(before, stop, room):
        end = min(start + room, stop)
        if end - start < FEWEST:
            return
        words = np.array([-1 if w is None else w for w in encoding.word_ids[start:end]], np.int32)
        edges = np.full(before, -1, np.int32), np.full(behind, -1, np.int32)
        yield Window(
            np.concatenate([ids[:before], ids[start:end], ids[stop:]]),
            np.concatenate([edges[0], numbered(words), edges[1]]),
        )


def numbered(words: np.ndarray) -> np.ndarray:
    """The words of a window counted from 0 without gaps; -1 stays."""
    return np.where(words < 0, -1, np.cumsum(np.diff(words, prepend=words[:1]) != 0))


# --- pairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Pairs:
    """Anchors with their positives, and with the same number of negatives each, or with scores."""

    anchor: Ragged
    positive: Ragged
    negatives: tuple[Ragged, ...] = ()
    scores: np.ndarray | None = None  # [n] float32

    @property
    def columns(self) -> tuple[Ragged, ...]:
        """All texts of a row."""
        return (self.anchor, self.positive, *self.negatives)

    @cached_property
    def lengths(self) -> np.ndarray:
        """The tokens of the longest text of each row, [n]."""
        return np.max([column.lengths for column in self.columns], axis=0)

    @cached_property
    def sha256(self) -> str:
        """The sum of all ids, and of the scores."""
        return sum_of(*self.columns, *([] if self.scores is None else [self.scores]))

    def tokens(self, rows: np.ndarray) -> int:
        """How many tokens all texts of these rows have."""
        return int(sum(column.lengths[rows].sum() for column in self.columns))

    def batch(self, rows: np.ndarray, length: int) -> Arrays:
        """anchor_ids and so on [b, t]; negative_ids [b, k, t] and scores [b] if there are some."""
        found = text_arrays(self.anchor, rows, length, "anchor_")
        found |= text_arrays(self.positive, rows, length, "positive_")
        if self.negatives:
            each = [text_arrays(column, rows, length, "negative_") for column in self.negatives]
            found |= {key: np.stack([one[key] for one in each], axis=1) for key in each[0]}
        return found if self.scores is None else found | {"scores": self.scores[rows]}


def pairs(texts: Iterable[Texts], tokenizer: Tokenizer, length: int) -> Pairs:
    """The rows of pairs, each text cut to `length` tokens."""
    columns: list[list[np.ndarray]] = [[], []]
    scores: list[float | None] = []
    for some in groups(texts):
        rows = [(own.text, *own.others) for own in some]
        columns += [[] for _ in range(len(rows[0]) - len(columns))]
        for column, own in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(tokenizer(own, length))
        scores += [own.score for own in some]
    anchor, positive, *negatives = map(Ragged.of, columns)
    given = None if None in scores else np.array(scores, np.float32)
    return Pairs(anchor, positive, tuple(negatives), given)


# --- texts with a teacher's vectors ---------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Taught:
    """Texts, and the vectors [n, d] that a teacher gives them."""

    ids: Ragged
    vectors: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each text, [n]."""
        return self.ids.lengths

    @cached_property
    def sha256(self) -> str:
        """The sum of ids and vectors."""
        return sum_of(self.ids, self.vectors)

    def tokens(self, rows: np.ndarray) -> int:
        """How many tokens these texts have."""
        return int(self.lengths[rows].sum())

    def batch(self, rows: np.ndarray, length: int) -> Arrays:
        """ids and segments [b, t], teacher [b, d]."""
        return text_arrays(self.ids, rows, length) | {"teacher": np.asarray(self.vectors[rows])}


def taught(texts: Sequence[str], tokenizer: Tokenizer, length: int, vectors: np.ndarray) -> Taught:
    """Texts cut to `length` tokens, with the vectors of a teacher."""
    return Taught(Ragged.of(tokenizer(texts, length)), vectors)
