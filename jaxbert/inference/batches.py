"""A batch: the texts that run together in arrays of one shape, and how these are filled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class BatchArrays(NamedTuple):
    """The int32 arrays of a batch with b rows of t tokens."""

    ids: np.ndarray  # [b, t]; any number where there is no token, since nothing attends to it
    segments: np.ndarray  # [b, t]: 0 where there is no token, else equal within a text
    positions: np.ndarray  # [#b, t]: one row if there is one text in a row
    token_index: np.ndarray | None  # [m, u]: index in b * t of token u of text m, or -1


class Padded(NamedTuple):
    """A batch with one text in each row; rows without a text stay empty."""

    members: np.ndarray  # indices of texts; at most `rows`
    rows: int
    length: int

    def fill(self, tokens: Sequence[np.ndarray]) -> BatchArrays:
        """The arrays of the batch; tokens holds the ids [t_i] of all texts."""
        ids = np.zeros((self.rows, self.length), np.int32)
        segments = np.zeros_like(ids)
        for row, member in enumerate(self.members):
            text = tokens[member]
            ids[row, : len(text)] = text
            segments[row, : len(text)] = 1
        return BatchArrays(ids, segments, np.arange(self.length, dtype=np.int32)[None], None)


class Packed(NamedTuple):
    """A batch with several short texts in each row; each attends to its own tokens alone."""

    members: np.ndarray  # indices of texts; at most `texts`
    row: np.ndarray  # the row of each member
    rows: int
    length: int
    texts: int  # how many texts token_index has room for
    longest: int  # tokens of the longest text that fits in token_index

    def fill(self, tokens: Sequence[np.ndarray]) -> BatchArrays:
        """The arrays of the batch; positions restart with each text."""
        ids = np.zeros((self.rows, self.length), np.int32)
        segments, positions = np.zeros_like(ids), np.zeros_like(ids)
        token_index = np.full((self.texts, self.longest), -1, np.int32)
        used = [0] * self.rows
        for i, (member, row) in enumerate(zip(self.members, self.row, strict=True)):
            text, first = tokens[member], used[row]
            stop = used[row] = first + len(text)
            ids[row, first:stop] = text
            segments[row, first:stop] = i + 1
            positions[row, first:stop] = np.arange(len(text))
            token_index[i, : len(text)] = row * self.length + np.arange(first, stop)
        return BatchArrays(ids, segments, positions, token_index)


Batch = Padded | Packed
