"""A batch: the texts that run together in arrays of one shape, and how these are filled."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class BatchArrays(NamedTuple):
    """The int32 arrays of a batch with b rows of t tokens."""

    ids: np.ndarray  # [b, t]; any number where there is no token, since nothing attends to it
    segments: np.ndarray  # [b, t]: 0 where there is no token, else equal within a text
    positions: np.ndarray  # [#b, t]: one row if there is one text in a row
    token_index: np.ndarray | None  # [m, u]: index in b * t of token u of text m, or -1
    types: np.ndarray | None = None  # [b, t]: token types; None: all are 0

    @property
    def text_axes(self) -> tuple[int, ...]:
        """(m,), the room for texts; with a leading axis where batches of devices are stacked."""
        rows = self.ids if self.token_index is None else self.token_index
        return rows.shape[:-1]


def count(tokens: np.ndarray) -> int:
    """The number of tokens of a text, from its ids [t], or its ids and types [2, t]."""
    return tokens.shape[-1]


def narrow(token_index: np.ndarray) -> np.ndarray:
    """token_index [m, u] with no more columns than the longest of these texts has tokens."""
    return token_index[:, : max(1, int((token_index >= 0).sum(axis=1).max()))]


def typed_like(ids: np.ndarray, tokens: Sequence[np.ndarray], members: np.ndarray) -> Any:
    """Types of zeros in the shape of ids where texts have types, else None."""
    has_types = len(members) > 0 and tokens[members[0]].ndim == 2
    return np.zeros_like(ids) if has_types else None


def write(ids: np.ndarray, types: Any, row: int, where: slice, tokens: np.ndarray) -> None:
    """Put the ids of a text into a row, and its types where there are any."""
    if types is None:
        ids[row, where] = tokens
    else:
        ids[row, where], types[row, where] = tokens


class Padded(NamedTuple):
    """A batch with one text in each row; rows without a text stay empty."""

    members: np.ndarray  # indices of texts; at most `rows`
    rows: int
    length: int

    def fill(self, tokens: Sequence[np.ndarray]) -> BatchArrays:
        """The arrays of the batch; tokens holds the ids [t_i], or ids and types [2, t_i], of texts.

        All texts of a call have types, or none has.
        """
        ids = np.zeros((self.rows, self.length), np.int32)
        segments, types = np.zeros_like(ids), typed_like(ids, tokens, self.members)
        for row, member in enumerate(self.members):
            text = tokens[member]
            write(ids, types, row, slice(count(text)), text)
            segments[row, : count(text)] = 1
        return BatchArrays(ids, segments, np.arange(self.length, dtype=np.int32)[None], None, types)


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
        types = typed_like(ids, tokens, self.members)
        token_index = np.full((self.texts, self.longest), -1, np.int32)
        used = [0] * self.rows
        for i, (member, row) in enumerate(zip(self.members, self.row, strict=True)):
            text, first = tokens[member], used[row]
            stop = used[row] = first + count(text)
            write(ids, types, row, slice(first, stop), text)
            segments[row, first:stop] = i + 1
            positions[row, first:stop] = np.arange(count(text))
            token_index[i, : count(text)] = row * self.length + np.arange(first, stop)
        return BatchArrays(ids, segments, positions, token_index, types)


Batch = Padded | Packed
