"""Token counts -> batches of a few fixed shapes.

XLA compiles a program per shape, so lengths and row counts are rounded up to a few buckets.
A planner is an object: ByLength wastes little, ByText makes the shape a function of the text alone.
The numbers here were measured in notes/06-cpu.md.
"""

import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from jaxbert.inference.batches import Batch, Padded
from jaxbert.inference.ladder import (
    Rows,
    bucket,
    capped,
    lengths,
    row_counts,
    rows_for,
    step_at,
)
from jaxbert.inference.packing import FEW, SHORT, Packing, Together, cost

# Tokens of a batch for each core of a CPU: the arrays then stay in its caches.
CORE = 256
# The same where the shape is that of a text: one alone then runs with few empty rows beside it.
CORE_BY_TEXT = 24
# Tokens of a batch on an accelerator, where a larger one costs nothing but memory.
CHIP = 32768


class Planner(Protocol):
    """The interface of objects that put texts into batches."""

    def plan(self, counts: Sequence[int], batch_size: int | None) -> Sequence[Batch]:
        """Batches with every text in exactly one that is long enough; counts are its tokens."""
        ...

    def usual(self, most: int) -> Sequence[Batch]:
        """Empty batches of the shapes that texts of up to `most` tokens usually get."""
        ...

    def shapes(self, most: int, texts: int) -> Sequence[Batch]:
        """Empty batches of every shape that `plan` can give for `texts` texts of up to `most`."""
        ...


@dataclass(frozen=True)
class ByLength:
    """Texts sorted by length, in batches of about `budget` tokens; short texts share rows.

    Small inputs get small batches, a few texts one row together. `rows` says how many a batch has
    that is not full; `compiling` what it costs to compile a shape, in the time of one token: 0
    where that is not to be saved (coarse_first.py).
    """

    budget: int = 2 * CORE
    steps: int = 8  # buckets of lengths to a doubling
    longest: int | None = None  # most tokens of a text: the rows of a learned position table
    packing: Packing | None = SHORT
    together: Together | None = FEW
    rows: Rows = rows_for
    compiling: int = 0

    def full(self, length: int, batch_size: int | None) -> int:
        """The rows of a full batch of that length."""
        rows = max(1, round(self.budget / length))
        return rows if batch_size is None else min(rows, batch_size)

    def plan(self, counts: Sequence[int], batch_size: int | None = None) -> list[Batch]:
        """Batches for texts of so many tokens, longest first; batch_size bounds their rows.

        Of the plans that share rows among more or fewer texts, the one that costs least.
        """
        limits = (0,) if self.packing is None else self.packing.limits
        plans = [self.by_length(counts, batch_size, limit) for limit in dict.fromkeys(limits)]
        batches = min(plans, key=cost)
        if self.together is None or sum(counts) > self.budget:
            return batches
        return self.together.cheaper(counts, batches, self.steps)

    def by_length(self, counts: Sequence[int], batch_size: int | None, limit: int) -> list[Batch]:
        """Batches of texts of about one length; those of up to `limit` tokens may share rows.

        The rows of a batch are chosen for the texts of its own bucket or of more than three
        quarters of its length; shorter texts only get rows that would be empty.
        """
        order = np.argsort(-np.asarray(counts, np.int64), kind="stable").tolist()
        falling = [-counts[i] for i in order]
        short = self.short_from(falling, limit)
        batches: list[Batch] = []
        start = 0
        while start < short:
            uncapped = bucket(-falling[start], self.steps)
            length = capped(uncapped, self.longest)
            # Texts of more tokens than this get rows of their own; none has fewer than 0.
            above = min(3 * length // 4, uncapped - step_at(uncapped, self.steps))
            near = bisect_left(falling, -above if above else 1, lo=start + 1, hi=short) - start
            rows = self.rows(near, self.full(length, batch_size))
            batches.append(Padded(np.array(order[start : min(start + rows, short)]), rows, length))
            start += rows
        return batches + self.packed(counts, order[short:], batch_size)

    def short_from(self, falling: Sequence[int], limit: int) -> int:
        """The index in `falling` of the first text that shares a row; its length if none has to."""
        if self.packing is None:
            return len(falling)
        start = bisect_left(falling, -limit)
        return start if -sum(falling[start:]) > self.packing.length else len(falling)

    def packed(
        self, counts: Sequence[int], members: Sequence[int], batch_size: int | None
    ) -> list[Batch]:
        """Batches of the short texts `members`, several to a row."""
        if self.packing is None or not members:
            return []
        bins = list(self.packing.bins(counts, members))
        full = self.full(self.packing.length, batch_size)
        batches: list[Batch] = []
        while bins:
            rows = self.packing.partial(len(bins), full)
            batches.append(self.packing.batch(bins[:rows], rows))
            bins = bins[rows:]
        return batches

    def usual(self, most: int) -> list[Batch]:
        """One row and a full batch of each bucket, and one full batch of shared rows."""
        none = np.zeros(0, np.int64)
        batches: list[Batch] = []
        for length in lengths(most, self.steps, self.longest):
            batches.append(Padded(none, 1, length))
            full = self.full(length, None)
            if full > 1 and (self.packing is None or length > min(self.packing.limits)):
                batches.append(Padded(none, full, length))
        if self.packing is not None:
            batches.append(self.packing.batch([], self.full(self.packing.length, None)))
        return batches

    def shapes(self, most: int, texts: int) -> list[Batch]:
        """Every number of rows of each bucket, of shared rows, and the rows of a few texts."""
        none = np.zeros(0, np.int64)
        batches: list[Batch] = []
        below = 0  # the most tokens of a text that gets a shorter row
        for length in lengths(most, self.steps, self.longest):
            alone = self.most_alone(below + 1, texts)
            batches += [
                Padded(none, n, length)
                for n in row_counts(self.rows, alone, self.full(length, None))
            ]
            below = length
        if self.packing is not None and texts > 1:
            full = self.full(self.packing.length, None)
            batches += [
                self.packing.batch([], n) for n in row_counts(self.packing.partial, texts, full)
            ]
        if self.together is not None:
            batches += self.together.shapes(most, texts, self.steps)
        return batches

    def most_alone(self, tokens: int, texts: int) -> int:
        """How many of `texts` texts of at least so many tokens can get a row each."""
        if self.packing is None or tokens > min(self.packing.limits):
            return texts
        return min(texts, max(1, self.packing.length // tokens))


@dataclass(frozen=True)
class ByText:
    """The shape of a text's batch depends on its own token count alone, so its bits do too.

    Batches are filled up with empty rows; batch_size changes nothing, no row is shared.
    """

    budget: int = 512
    most_rows: int = 16
    steps: int = 8
    longest: int | None = None

    def shape(self, tokens: int) -> tuple[int, int]:
        """The rows and the length of the batch for a text of so many tokens."""
        length = capped(bucket(tokens, self.steps), self.longest)
        return min(self.most_rows, max(1, round(self.budget / length))), length

    def plan(self, counts: Sequence[int], batch_size: int | None = None) -> list[Batch]:
        """Batches with one row count per bucket, longest first; batch_size is ignored."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, tokens in enumerate(counts):
            groups.setdefault(self.shape(tokens), []).append(i)
        return [
            Padded(np.array(members[start : start + rows]), rows, length)
            for (rows, length), members in sorted(groups.items(), key=lambda group: -group[0][1])
            for start in range(0, len(members), rows)
        ]

    def usual(self, most: int) -> list[Batch]:
        """An empty batch of the one shape of each bucket."""
        none = np.zeros(0, np.int64)
        return [
            Padded(none, *self.shape(length)) for length in lengths(most, self.steps, self.longest)
        ]

    def shapes(self, most: int, texts: int) -> list[Batch]:
        """The same, for there are no other shapes."""
        return self.usual(most)


def by_length(backend: str, longest: int | None) -> ByLength:
    """The default planner for a backend of jax.default_backend().

    An accelerator gets large batches of few shapes, since each takes long to compile.
    """
    if backend == "cpu":
        return ByLength(budget=CORE * cores(), longest=longest)
    packing = Packing(longest=32, partial=rows_for)
    return ByLength(budget=CHIP, steps=2, longest=longest, packing=packing, together=None)


def by_text(backend: str, longest: int | None) -> ByText:
    """The planner of deterministic models for a backend of jax.default_backend().

    On a CPU it depends on the number of cores, as the bits of a product do.
    """
    if backend == "cpu":
        return ByText(budget=CORE_BY_TEXT * cores(), longest=longest)
    return ByText(budget=CHIP, most_rows=CHIP // 128, steps=2, longest=longest)


def for_equal_texts(planner: Planner) -> Planner:
    """The planner for a few texts of which some are equal: each gets a row of its own.

    In rows that they share, equal texts would differ by rounding, as their places there do.
    """
    if isinstance(planner, ByLength):
        return replace(planner, packing=None, together=None)
    return planner


def cores() -> int:
    """The cores that this process may use, at least 2 and at most 32."""
    try:
        number = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        number = os.cpu_count() or 2
    return min(max(number, 2), 32)
