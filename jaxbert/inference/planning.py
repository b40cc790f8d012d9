"""Token counts -> batches of a few fixed shapes.

XLA compiles a program per shape, so texts are put into a small ladder of lengths and row counts.
A planner is an object: ByLength wastes little, ByText makes the shape a function of the text alone.
What the numbers here were chosen from: notes/06-cpu.md.
"""

import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jaxbert.errors import InputError
from jaxbert.inference.batches import Batch, Packed, Padded

# The lowest rung of the ladder of lengths: below it a batch costs its overhead, not its tokens.
SHORTEST = 16
# Tokens of a batch for each core of a CPU: what it works on then stays in the caches.
CORE = 256
# Tokens of a batch on an accelerator, where a larger one costs nothing but memory.
CHIP = 32768


class Planner(Protocol):
    """How texts are put into batches."""

    def plan(self, counts: Sequence[int], batch_size: int | None) -> Sequence[Batch]:
        """Every text in exactly one batch that is long enough for it."""
        ...

    def usual(self, most: int) -> Sequence[Batch]:
        """Empty batches of the shapes that texts of up to `most` tokens usually get."""
        ...


def bucket(tokens: int, steps: int) -> int:
    """The smallest length of the ladder that holds so many tokens.

    From 16 * steps on the ladder has `steps` rungs to a doubling, below they are 16 apart: with 8
    steps 16, 32, 48 ... 256, 288, 320 ... 512, 576 ...
    """
    step = step_at(tokens, steps)
    return max(SHORTEST, -(-tokens // step) * step)


def step_at(tokens: int, steps: int) -> int:
    """How far the rung that holds so many tokens is from the one below it."""
    return max(SHORTEST, floor_power(tokens - 1) // steps)


def floor_power(number: int) -> int:
    """The largest power of two that is not above number, and at least 1."""
    return 1 << (max(number, 1).bit_length() - 1)


def rows_for(rest: int, full: int) -> int:
    """How many rows the next batch gets, if `rest` texts are left and `full` rows are allowed.

    `full`, or a power of two: the next above `rest`, unless that leaves over a quarter of it empty.
    """
    if rest >= full:
        return full
    below = floor_power(rest)
    above = below if below == rest else min(2 * below, full)
    return above if 4 * rest >= 3 * above else below


def capped(length: int, longest: int | None) -> int:
    """The length, or the longest that there is."""
    return length if longest is None else min(length, longest)


def lengths(most: int, steps: int, longest: int | None) -> Iterator[int]:
    """The rungs of the ladder for texts of up to `most` tokens."""
    tokens = 0
    while tokens < most:
        length = capped(bucket(tokens + 1, steps), longest)
        yield length
        tokens = length if length > tokens else most


@dataclass(frozen=True)
class Packing:
    """Texts of up to `longest` tokens, at most `texts` of them in a row of `length`."""

    longest: int = 32
    length: int = 64
    texts: int = 8

    def __post_init__(self) -> None:
        """Refuse rows that cannot hold one text."""
        if not 0 < self.longest <= self.length or self.texts < 1:
            raise InputError(f"{self} has rows that cannot hold a text; make them longer")

    def bins(self, counts: Sequence[int], members: Sequence[int]) -> Iterator[list[int]]:
        """The texts of each row: the longest that fits first, then the longest that still fits."""
        device_batches: list[list[int]] = [[] for _ in range(self.longest + 1)]
        for i in reversed(members):
            device_batches[counts[i]].append(i)
        left = len(members)
        while left:
            row: list[int] = []
            room, size = self.length, self.longest
            while len(row) < self.texts:
                size = min(size, room)
                while size >= 0 and not device_batches[size]:
                    size -= 1
                if size < 0:
                    break
                row.append(device_batches[size].pop())
                room -= size
            left -= len(row)
            yield row

    def batch(self, bins: Sequence[Sequence[int]], rows: int) -> Packed:
        """A batch of these rows, and of empty ones up to `rows`."""
        return Packed(
            members=np.array([i for own_bin in bins for i in own_bin], np.int64),
            row=np.repeat(np.arange(len(bins)), [len(own_bin) for own_bin in bins]),
            rows=rows,
            length=self.length,
            texts=rows * self.texts,
            longest=self.longest,
        )


@dataclass(frozen=True)
class ByLength:
    """Longest first, cut into batches of about `budget` tokens; short texts share rows.

    Small inputs get small batches.
    """

    budget: int = 2 * CORE
    steps: int = 8  # rungs of the ladder of lengths to a doubling
    longest: int | None = None  # tokens of a text: a learned table of positions ends there
    packing: Packing | None = Packing()

    def full(self, length: int, batch_size: int | None) -> int:
        """The rows of a full batch of that length."""
        rows = max(1, round(self.budget / length))
        return rows if batch_size is None else min(rows, batch_size)

    def plan(self, counts: Sequence[int], batch_size: int | None = None) -> list[Batch]:
        """batch_size bounds the rows of a batch, None leaves it to the budget.

        A batch gets as many rows as there are texts of its own rung or of more than three quarters
        of its length; only rows that are there anyway are given to shorter ones.
        """
        order = np.argsort(-np.asarray(counts, np.int64), kind="stable").tolist()
        falling = [-counts[i] for i in order]
        rest = self.short_from(falling)
        batches: list[Batch] = []
        start = 0
        while start < rest:
            own = bucket(-falling[start], self.steps)
            length = capped(own, self.longest)
            # Texts of more tokens than this are near; none has fewer than 0.
            apart = min(3 * length // 4, own - step_at(own, self.steps))
            near = bisect_left(falling, -apart if apart else 1, lo=start + 1, hi=rest) - start
            rows = rows_for(near, self.full(length, batch_size))
            batches.append(Padded(np.array(order[start : min(start + rows, rest)]), rows, length))
            start += rows
        return batches + self.packed(counts, order[rest:], batch_size)

    def short_from(self, falling: Sequence[int]) -> int:
        """Where in the sorted texts those begin that share rows; the end, if one row holds all."""
        if self.packing is None:
            return len(falling)
        start = bisect_left(falling, -self.packing.longest)
        return start if -sum(falling[start:]) > self.packing.length else len(falling)

    def packed(
        self, counts: Sequence[int], members: Sequence[int], batch_size: int | None
    ) -> list[Batch]:
        """Batches of rows that short texts share."""
        if self.packing is None or not members:
            return []
        bins = list(self.packing.bins(counts, members))
        full = self.full(self.packing.length, batch_size)
        batches: list[Batch] = []
        while bins:
            rows = rows_for(len(bins), full)
            batches.append(self.packing.batch(bins[:rows], rows))
            bins = bins[rows:]
        return batches

    def usual(self, most: int) -> list[Batch]:
        """A text alone and a full batch for each length; short texts have one full batch in all."""
        none = np.zeros(0, np.int64)
        batches: list[Batch] = []
        for length in lengths(most, self.steps, self.longest):
            batches.append(Padded(none, 1, length))
            full = self.full(length, None)
            if full > 1 and (self.packing is None or length > self.packing.longest):
                batches.append(Padded(none, full, length))
        if self.packing is not None:
            batches.append(self.packing.batch([], self.full(self.packing.length, None)))
        return batches


@dataclass(frozen=True)
class ByText:
    """The shape depends on a text's own token count alone, so its bits do too.

    Batches that stay partly empty are filled up; batch_size changes nothing, no row is shared.
    """

    budget: int = 512
    most_rows: int = 16
    steps: int = 8
    longest: int | None = None

    def shape(self, tokens: int) -> tuple[int, int]:
        """Rows and length for a text of so many tokens."""
        length = capped(bucket(tokens, self.steps), self.longest)
        return min(self.most_rows, max(1, round(self.budget / length))), length

    def plan(self, counts: Sequence[int], batch_size: int | None = None) -> list[Batch]:
        """One row count per rung of the ladder."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, tokens in enumerate(counts):
            groups.setdefault(self.shape(tokens), []).append(i)
        return [
            Padded(np.array(members[start : start + rows]), rows, length)
            for (rows, length), members in sorted(groups.items(), key=lambda group: -group[0][1])
            for start in range(0, len(members), rows)
        ]

    def usual(self, most: int) -> list[Batch]:
        """The one shape of each length."""
        none = np.zeros(0, np.int64)
        return [
            Padded(none, *self.shape(length)) for length in lengths(most, self.steps, self.longest)
        ]


def by_length(backend: str, longest: int | None) -> ByLength:
    """The planner for a backend, as jax.default_backend() has it.

    An accelerator takes large batches of few shapes, for it compiles each of them slowly.
    """
    if backend == "cpu":
        return ByLength(budget=CORE * cores(), longest=longest)
    return ByLength(budget=CHIP, steps=2, longest=longest)


def cores() -> int:
    """The cores that this process may use, at least 2 and at most 32."""
    try:
        number = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        number = os.cpu_count() or 2
    return min(max(number, 2), 32)
