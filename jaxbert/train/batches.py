"""A batch as a function of the step: nothing has to be saved for a run to go on as it was.

An epoch is a permutation of all rows, drawn by a generator that counts (Philox, keyed by seed and
epoch), so that no row comes twice in an epoch and each epoch is another one.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import InputError
from jaxbert.train.data import Arrays, Data

# Lengths are multiples of this, which suits the vectors of processors.
MULTIPLE = 8


def bucket_lengths(length: int, number: int) -> tuple[int, ...]:
    """length, its half, its quarter and so on, at most `number` of them, the smallest first.

    All but `length` itself are rounded up to multiples of MULTIPLE.
    """
    found = {length}
    for i in range(1, number):
        half = -(-length // 2**i)
        found.add(min(-(-half // MULTIPLE) * MULTIPLE, length))
    return tuple(sorted(found))


class Bucket(NamedTuple):
    """Rows that are filled up to one length."""

    length: int
    rows: np.ndarray


def buckets_of(
    lengths: np.ndarray, sizes: Sequence[int], rows: int, what: str = "the data"
) -> tuple[Bucket, ...]:
    """Each row in the smallest bucket that it fits in, and none with less than `rows` rows.

    A bucket with too few rows gives them to the next larger one; the largest takes what is in the
    one before. Raises InputError where all rows together are less than a batch.
    """
    if len(lengths) < rows:
        raise InputError(
            f"{what} has {len(lengths)} rows, which is less than a batch of {rows}; give more "
            "texts, or a smaller --batch"
        )
    if lengths.max() > max(sizes):
        raise InputError(
            f"a row has {lengths.max()} tokens, and the longest bucket {max(sizes)}; cut the rows"
        )
    place = np.searchsorted(np.array(sorted(sizes)), lengths)
    found: list[Bucket] = []
    few = np.zeros(0, np.int64)
    for i, size in enumerate(sorted(sizes)):
        own = np.sort(np.concatenate([few, np.flatnonzero(place == i)]))
        few = own if len(own) < rows else np.zeros(0, np.int64)
        if len(own) >= rows:
            found.append(Bucket(size, own))
    if len(few):
        longest = int(lengths[few].max())
        size = min(size for size in sizes if size >= longest)
        last = found.pop() if found else Bucket(size, few[:0])
        found.append(Bucket(size, np.sort(np.concatenate([last.rows, few]))))
    return tuple(found)


def permutation(n: int, seed: int, epoch: int, stream: int) -> np.ndarray:
    """A permutation of 0 ... n - 1 that depends on the three numbers alone.

    Differs: NumPy's own permutation may change with its version; the raw numbers of a bit
    generator may not, and their order is the permutation.
    """
    counter = np.array([0, 0, stream, epoch], np.uint64)
    numbers = np.random.Philox(key=seed, counter=counter).random_raw(n)
    return np.argsort(numbers, kind="stable")


class Batches:
    """batches(step) -> the arrays of a batch of `rows` rows; the same for the same step and seed.

    `shapes` are the lengths that a batch can have. Rows beyond the last whole batch of a bucket are
    left out of an epoch, others in each.
    """

    def __init__(self, data: Data, rows: int, seed: int, sizes: Sequence[int]) -> None:
        """sizes are the lengths of buckets. Raises InputError for less rows than a batch."""
        self.data, self.rows, self.seed = data, rows, integer(seed, "seed", 0)
        self.buckets = buckets_of(data.lengths, sizes, integer(rows, "batch", 1))
        self._epoch = lru_cache(maxsize=2)(self._drawn)

    @property
    def shapes(self) -> tuple[int, ...]:
        """The lengths of batches, the smallest first."""
        return tuple(bucket.length for bucket in self.buckets)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches have no row in common."""
        return sum(len(bucket.rows) // self.rows for bucket in self.buckets)

    def _drawn(self, epoch: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """The bucket of each batch of an epoch, its number there, and each bucket's rows mixed."""
        counts = [len(bucket.rows) // self.rows for bucket in self.buckets]
        plain = np.repeat(np.arange(len(counts)), counts)
        which = plain[permutation(len(plain), self.seed, epoch, 0)]
        turn = np.zeros(len(which), np.int64)
        for i in range(len(counts)):
            turn[which == i] = np.arange(counts[i])
        mixed = [
            bucket.rows[permutation(len(bucket.rows), self.seed, epoch, 1 + i)]
            for i, bucket in enumerate(self.buckets)
        ]
        return which, turn, mixed

    def rows_of(self, step: int) -> tuple[np.ndarray, int]:
        """The rows of a step's batch, and the length that they are filled up to."""
        epoch, i = divmod(step, self.steps_per_epoch)
        which, turn, mixed = self._epoch(epoch)
        bucket, first = int(which[i]), int(turn[i]) * self.rows
        return mixed[bucket][first : first + self.rows], self.buckets[bucket].length

    def tokens(self, step: int) -> int:
        """How many tokens the batch of a step has, padding not counted."""
        return self.data.tokens(self.rows_of(step)[0])

    def __call__(self, step: int) -> Arrays:
        """The arrays of a step's batch, counted from 0."""
        return self.data.batch(*self.rows_of(step))
