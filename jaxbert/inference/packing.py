"""Rows that several texts share: many short texts, or the few texts of a small call."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jaxbert.errors import InputError
from jaxbert.inference.batches import Batch, Packed
from jaxbert.inference.ladder import Rows, bucket, lengths, rows_in_quarters

# What a batch costs: a call takes as long as so many tokens, and attention makes the tokens of
# a row of so many cost double.
CALL, DOUBLE = 32, 1400


@dataclass(frozen=True)
class Packing:
    """Rows of `length` tokens that hold up to `texts` texts of up to `longest` tokens each.

    `partial` says how many rows a batch has that is not full.
    """

    longest: int = 64
    length: int = 64
    texts: int = 8
    partial: Rows = rows_in_quarters

    def __post_init__(self) -> None:
        """Raise InputError for rows that cannot hold one text."""
        if not 0 < self.longest <= self.length or self.texts < 1:
            raise InputError(f"{self} has rows that cannot hold a text; make them longer")

    @property
    def limits(self) -> tuple[int, int]:
        """Of texts of up to how many tokens rows may be shared: of short ones, or of all.

        Texts longer than half of a row can share one with short texts alone.
        """
        return min(self.longest, self.length // 2), self.longest

    def bins(self, counts: Sequence[int], members: Sequence[int]) -> Iterator[list[int]]:
        """The texts of each row: the longest that fits first, then the longest that still fits."""
        by_count: list[list[int]] = [[] for _ in range(self.longest + 1)]
        for i in reversed(members):
            by_count[counts[i]].append(i)
        left = len(members)
        while left:
            row: list[int] = []
            room, size = self.length, self.longest
            while len(row) < self.texts:
                size = min(size, room)
                while size >= 0 and not by_count[size]:
                    size -= 1
                if size < 0:
                    break
                row.append(by_count[size].pop())
                room -= size
            left -= len(row)
            yield row

    def batch(self, bins: Sequence[Sequence[int]], rows: int) -> Packed:
        """A batch whose first rows are these bins; those up to `rows` stay empty."""
        return Packed(
            members=np.array([i for texts in bins for i in texts], np.int64),
            row=np.repeat(np.arange(len(bins)), [len(texts) for texts in bins]),
            rows=rows,
            length=self.length,
            texts=rows * self.texts,
            longest=self.longest,
        )


def cost(batches: Sequence[Batch]) -> float:
    """The time of batches in those of one token, about, on a CPU."""
    return sum(CALL + b.rows * b.length * (1.0 + b.length / DOUBLE) for b in batches)


@dataclass(frozen=True)
class Together:
    """One row for a few texts, of at most `most` tokens together, where that is cheaper."""

    most: int = 256
    texts: int = 16

    def row(self, length: int) -> Packing:
        """A row of this length for any of the texts that it holds."""
        return Packing(longest=length, length=length, texts=self.texts)

    def holds(self, texts: int, tokens: int) -> bool:
        """Whether a row may hold so many texts of so many tokens in all."""
        return texts <= self.texts and tokens <= self.most

    def cheaper(self, counts: Sequence[int], batches: Sequence[Batch], steps: int) -> list[Batch]:
        """These batches of texts of so many tokens, or the one row that costs less."""
        if len(counts) < 2 or not self.holds(len(counts), sum(counts)):
            return list(batches)
        row: Batch = self.row(bucket(sum(counts), steps)).batch([range(len(counts))], 1)
        return [row] if cost([row]) < cost(batches) else list(batches)

    def shapes(self, most: int, texts: int, steps: int) -> Iterator[Batch]:
        """An empty batch of each row that `cheaper` can give for `texts` texts of up to `most`."""
        tokens = min(self.most, most * min(texts, self.texts)) if texts > 1 else 0
        return (self.row(length).batch([], 1) for length in lengths(tokens, steps, None))


SHORT, FEW = Packing(), Together()
