"""Batches -> device -> rows of results: one program per shape, the host a step ahead."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxbert.batching import Batch

# Batches under way at once: one runs while the next is being put together.
AHEAD = 2


class Program:
    """A function jitted once per shape of its inputs; `compilations` says how often that was."""

    def __init__(self, function: Callable[..., jax.Array], *fixed: Any) -> None:
        """The leading arguments, such as the weights, stay the same in every call."""
        self.jitted = jax.jit(function)
        self.fixed = fixed
        self.compiled: dict[tuple[tuple[int, ...], ...], Callable[..., jax.Array]] = {}

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled."""
        return len(self.compiled)

    def __call__(self, *arrays: np.ndarray) -> jax.Array:
        """Run, compiling first where the shapes are new."""
        shapes = tuple(array.shape for array in arrays)
        if shapes not in self.compiled:
            self.compiled[shapes] = self.jitted.lower(*self.fixed, *arrays).compile()
        return self.compiled[shapes](*self.fixed, *arrays)


def fill(batch: Batch, tokens: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and segments [rows, length]: 0 where there is no token.

    The padding id is of no consequence: nothing sees a token of segment 0.
    """
    ids = np.zeros((batch.rows, batch.length), np.int32)
    segments = np.zeros((batch.rows, batch.length), np.int32)
    for row, member in enumerate(batch.members):
        own = tokens[member]
        ids[row, : len(own)] = own
        segments[row, : len(own)] = 1
    return ids, segments


def run(
    program: Callable[..., jax.Array],
    batches: Iterable[Batch],
    tokens: Sequence[np.ndarray],
    *extra: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(members, their results [len(members), ...]) of each batch, in the order of the batches."""
    waiting: deque[tuple[np.ndarray, jax.Array]] = deque()
    for batch in batches:
        waiting.append((batch.members, program(*fill(batch, tokens), *extra)))
        if len(waiting) == AHEAD:
            yield finished(*waiting.popleft())
    while waiting:
        yield finished(*waiting.popleft())


def finished(members: np.ndarray, result: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Wait for a result, and drop the rows that only filled up the batch."""
    return members, np.asarray(result)[: len(members)]
