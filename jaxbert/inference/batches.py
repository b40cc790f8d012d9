"""A batch: which texts run together, in an array of one shape, and how it is filled."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class BatchArrays(NamedTuple):
    """The arrays of a batch: b rows of t tokens, int32."""

    ids: np.ndarray  # [b, t]; any number where there is no token, for nothing sees it
    segments: np.ndarray  # [b, t]: 0 where there is no token; equal numbers see each other
    positions: np.ndarray  # [#b, t]: one row if every text begins its row
    token_index: np.ndarray | None  # [m, u]: where in the b * t tokens those of text m are, or -1


class Padded(NamedTuple):
    """A text in each row; rows that are left over stay empty."""

    members: np.ndarray  # indices of texts; at most `rows`
    rows: int
    length: int

    def fill(self, tokens: Sequence[np.ndarray]) -> BatchArrays:
        """The arrays, from the ids of all texts."""
        ids = np.zeros((self.rows, self.length), np.int32)
        segments = np.zeros_like(ids)
        for row, member in enumerate(self.members):
            own = tokens[member]
            ids[row, : len(own)] = own
            segments[row, : len(own)] = 1
        return BatchArrays(ids, segments, np.arange(self.length, dtype=np.int32)[None], None)


class Packed(NamedTuple):
    """Several short texts in each row, one after the other; none sees another."""

    members: np.ndarray  # indices of texts; at most `texts`
    row: np.ndarray  # the row of each
    rows: int
    length: int
    texts: int  # how many texts the arrays have room for
    longest: int  # tokens of the longest that may be there

    def fill(self, tokens: Sequence[np.ndarray]) -> BatchArrays:
        """The arrays, from the ids of all texts; positions begin anew with each text."""
        ids = np.zeros((self.rows, self.length), np.int32)
        segments, positions = np.zeros_like(ids), np.zeros_like(ids)
        token_index = np.full((self.texts, self.longest), -1, np.int32)
        used = [0] * self.rows
        for text, (member, row) in enumerate(zip(self.members, self.row, strict=True)):
            own, first = tokens[member], used[row]
            stop = used[row] = first + len(own)
            ids[row, first:stop] = own
            segments[row, first:stop] = text + 1
            positions[row, first:stop] = np.arange(len(own))
            token_index[text, : len(own)] = row * self.length + positions[row, first:stop] + first
        return BatchArrays(ids, segments, positions, token_index)


Batch = Padded | Packed
