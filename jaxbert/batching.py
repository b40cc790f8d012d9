"""Token counts -> batches of a few fixed shapes.

XLA compiles a program per shape, so texts are put into a small ladder of lengths and row counts.
A planner is an object: ByLength wastes little, ByText makes the shape a function of the text alone.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

# The lowest rung of the ladder of lengths: below it a batch costs its overhead, not its tokens.
SHORTEST = 16


class Batch(NamedTuple):
    """Which texts run together, in an array of `rows` x `length` tokens."""

    members: np.ndarray  # indices of texts; at most `rows`
    rows: int
    length: int


class Planner(Protocol):
    """How texts are put into batches."""

    def plan(self, counts: Sequence[int], batch_size: int) -> list[Batch]:
        """Every text in exactly one batch that is long enough for it."""
        ...


def rung(tokens: int) -> int:
    """The smallest length of the ladder that holds so many tokens: 16, 32, 48, 64, 96, 128 ...

    From 32 on the ladder has two rungs per doubling, so at most a third of a row is padding.
    """
    power = SHORTEST
    while power < tokens:
        power *= 2
    three_quarters = 3 * power // 4
    return three_quarters if power >= 64 and tokens <= three_quarters else power


def floor_power(number: int) -> int:
    """The largest power of two that is not above number."""
    return 1 << (max(number, 1).bit_length() - 1)


def rows_for(rest: int, full: int) -> int:
    """How many rows the next batch gets, if `rest` texts are left and `full` rows are allowed.

    A power of two: the next above `rest`, unless that leaves over a quarter of it empty.
    """
    if rest >= full:
        return full
    below = floor_power(rest)
    above = below if below == rest else 2 * below
    return above if 4 * rest >= 3 * above else below


@dataclass(frozen=True)
class ByLength:
    """Longest first, cut into batches of about `budget` tokens; small inputs get small batches."""

    budget: int = 4096
    longest: int | None = None  # no row may be longer (a learned table of positions ends there)

    def plan(self, counts: Sequence[int], batch_size: int) -> list[Batch]:
        """batch_size bounds the rows of a batch.

        A batch gets as many rows as there are texts of more than half its length; only rows that
        are there anyway are given to shorter ones.
        """
        order = np.argsort(-np.asarray(counts, np.int64), kind="stable")
        falling = [-counts[i] for i in order]
        batches, start = [], 0
        while start < len(order):
            length = capped(rung(counts[order[start]]), self.longest)
            full = floor_power(min(batch_size, max(1, self.budget // length)))
            half = length // 2 if length > SHORTEST else -1
            alike = bisect_left(falling, -half, lo=start + 1) - start
            rows = rows_for(alike, full)
            batches.append(Batch(order[start : start + rows], rows, length))
            start += rows
        return batches


@dataclass(frozen=True)
class ByText:
    """The shape depends on a text's own token count alone, so its bits do too.

    Batches that stay partly empty are filled up; batch_size changes nothing.
    """

    budget: int = 2048
    most_rows: int = 32
    longest: int | None = None

    def plan(self, counts: Sequence[int], batch_size: int) -> list[Batch]:
        """One row count per rung of the ladder."""
        groups: dict[int, list[int]] = {}
        for i, tokens in enumerate(counts):
            groups.setdefault(capped(rung(tokens), self.longest), []).append(i)
        return [
            Batch(np.array(members[start : start + rows]), rows, length)
            for length, members in sorted(groups.items(), reverse=True)
            for rows in [floor_power(min(self.most_rows, max(1, self.budget // length)))]
            for start in range(0, len(members), rows)
        ]


def capped(length: int, longest: int | None) -> int:
    """The length, or the longest that there is."""
    return length if longest is None else min(length, longest)
