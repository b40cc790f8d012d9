"""The few lengths and numbers of rows that batches have, since XLA compiles a program per shape."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

# (texts or shared rows that are left, rows of a full batch) -> the rows of the next batch.
Rows: TypeAlias = Callable[[int, int], int]
# The shortest bucket: below it the time of a batch is overhead, not tokens.
SHORTEST = 16


def bucket(tokens: int, steps: int) -> int:
    """The smallest bucket of lengths that holds so many tokens.

    From 16 * steps on there are `steps` buckets to a doubling, below they are 16 apart: with 8
    steps 16, 32, 48 ... 256, 288, 320 ... 512, 576 ...
    """
    step = step_at(tokens, steps)
    return max(SHORTEST, -(-tokens // step) * step)


def step_at(tokens: int, steps: int) -> int:
    """The difference between the bucket of so many tokens and the one below it."""
    return max(SHORTEST, floor_power(tokens - 1) // steps)


def floor_power(number: int) -> int:
    """The largest power of two that is not above number, and at least 1."""
    return 1 << (max(number, 1).bit_length() - 1)


def rows_for(left: int, full: int) -> int:
    """How many rows the next batch gets, if `left` texts are left and `full` rows are allowed.

    `full`, or a power of two: the next above `left`, unless over a quarter of it would be empty.
    """
    if left >= full:
        return full
    below = floor_power(left)
    above = below if below == left else min(2 * below, full)
    return above if 4 * left >= 3 * above else below


def rows_in_quarters(left: int, full: int) -> int:
    """How many rows the next batch gets, as rows_for, with less of them empty.

    `full`, or `left` rounded up to a quarter of the power of two below it.
    """
    step = max(1, floor_power(left - 1) // 4)
    return min(full, -(-left // step) * step)


def all_rows(left: int, full: int) -> int:
    """How many rows the next batch gets where every batch is a full one."""
    return full


def row_counts(rows: Rows, left: int, full: int) -> list[int]:
    """Every number that rows, one of these three, can give for up to `left` texts, in order."""
    powers = (1 << i for i in range(min(left, full).bit_length() + 1))
    near = {n * power // 4 - less for power in powers for n in (3, 4, 5, 6, 7) for less in (0, 1)}
    return sorted({rows(n, full) for n in {*near, left, full} if 0 < n <= left})


def capped(length: int, longest: int | None) -> int:
    """The length, at most `longest` where that is not None."""
    return length if longest is None else min(length, longest)


def lengths(most: int, steps: int, longest: int | None) -> Iterator[int]:
    """The buckets for texts of up to `most` tokens, in order."""
    tokens = 0
    while tokens < most:
        length = capped(bucket(tokens + 1, steps), longest)
        yield length
        tokens = length if length > tokens else most
