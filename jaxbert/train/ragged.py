"""Rows of different lengths in one array: the token ids of a data set."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Ragged:
    """n rows of int32; row i is values[starts[i] : starts[i + 1]]."""

    values: np.ndarray  # [sum of lengths]
    starts: np.ndarray  # [n + 1]

    @classmethod
    def of(cls, rows: Iterable[np.ndarray]) -> Self:
        """The rows of an iterable, which is consumed; in memory once and a little more."""
        pieces, lengths = [np.zeros(0, np.int32)], [0]
        for row in rows:
            pieces.append(np.asarray(row, np.int32))
            lengths.append(len(row))
        return cls(np.concatenate(pieces), np.cumsum(lengths))

    def __len__(self) -> int:
        """The number n of rows."""
        return len(self.starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """The length of each row, [n]."""
        return np.diff(self.starts)

    def __getitem__(self, i: int) -> np.ndarray:
        """Row i, an array of its t_i numbers."""
        return self.values[self.starts[i] : self.starts[i + 1]]

    def filled(self, rows: np.ndarray, length: int, padding: int) -> np.ndarray:
        """These rows as [b, length], padding behind each; none may be longer."""
        found = np.full((len(rows), length), padding, np.int32)
        for i, row in enumerate(rows):
            own = self[row]
            found[i, : len(own)] = own
        return found

    def mask(self, rows: np.ndarray, length: int) -> np.ndarray:
        """[b, length] bool: where these rows have numbers of their own."""
        return np.arange(length)[None, :] < self.lengths[rows][:, None]

    def add_to(self, digest: Any) -> None:
        """Feed a hash with the rows."""
        digest.update(np.ascontiguousarray(self.values).tobytes())
        digest.update(self.starts.astype(np.int64).tobytes())
