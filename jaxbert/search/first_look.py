"""A first look at the scores in bfloat16, and what it proves of those in float32.

Where the processor multiplies bfloat16, a product takes half the time of one in float32. More rows
of each query are kept than are wanted, and the scores of these alone are computed in float32: where
the last one wanted is above all that a row left out can have, the answer is that of a full sort.
"""

from collections import deque
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from jaxbert.inference.similarity import unit_length
from jaxbert.process.backend import computing
from jaxbert.search.host import (
    LARGEST,
    SMALLEST,
    TOGETHER,
    clipped,
    squares_of,
    unchanged,
    with_lengths,
)
from jaxbert.search.kept import Kept
from jaxbert.search.stored import Floats

# Rows of a piece at least, of which all scores of AHEAD products are in the caches meanwhile.
ROWS, AHEAD = 1024, 2
# Rows that are rounded together: what one core's cache holds.
STEP = 256
# Queries come in multiples of so many, so that programs are few.
MULTIPLE = 64
# Queries, width and products of numbers from which it was faster: to round the corpus takes as long
# for few queries as for many, the choice of the best as long for any width, and there is a program
# to compile (notes/07).
MANY, WIDE, WORTH = 512, 256, 10**10
# Queries whose scores are computed in float32 together, where the budget allows it.
AGAIN = 32
# An upper bound of what the terms of second order, and the rounding of lengths, add to an error.
MARGIN = 1.01


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has AVX512_BF16, as Linux tells; others were not measured."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    return any("avx512_bf16" in line.split() for line in lines if line.startswith("flags"))


def worth_it(queries: int, rows: int, width: int) -> bool:
    """Whether a first look saves time, on a host whose processor is the device."""
    large = queries >= MANY and width >= WIDE and queries * rows * width >= WORTH
    return large and multiplies_bfloat16()


def kept_for(k: int) -> int:
    """How many rows are kept where k are wanted, so that of most corpora few queries are unsure."""
    return k + k // 2 + 12


def rows_for(kept: int) -> int:
    """The rows of a piece where so many are kept: a power of two, for programs are to be few."""
    return max(ROWS, 1 << (2 * TOGETHER * kept - 1).bit_length())


@jax.jit(donate_argnums=2, keep_unused=True)
def products(piece: jax.Array, queries: jax.Array, space: jax.Array) -> jax.Array:
    """piece [c, d] times queries [d, q] in bfloat16, [c, q]; the sums are in float32.

    They take the memory of space [c, q]: to be given new memory takes a sixth of the time.
    """
    return jnp.einsum(
        "cd,dq->cq",
        piece,
        queries,
        precision=Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def paired(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The products [q, r] of queries [q, d] with r vectors each, [q r, d]; equal ones are equal."""
    each = vectors.reshape(len(queries), -1, vectors.shape[1])
    return np.einsum("qrd,qd->qr", each, queries)


class FirstLook:
    """Queries that look at one piece of a corpus after another, and `answers`."""

    def __init__(
        self, queries: np.ndarray, kind: str, k: int, at_once: int, rows: int, spare: int
    ) -> None:
        """As HostSearch, for at least one query; at_once is a multiple of MULTIPLE."""
        self.kind, self.rows, self.spare, self.first = kind, rows, spare, 0
        self.queries = unit_length(queries) if kind == "cosine" else queries
        # Blocks of one size, filled with the last query: zeros would have many equal scores.
        blocks = -(-len(queries) // at_once)
        size = -(-len(queries) // (blocks * MULTIPLE)) * MULTIPLE
        number = blocks * size
        # Squared, of queries and of the corpus so far: the length, and that of what is lost.
        self.squares, self.lost = np.empty((2, number), np.float32)
        self.longest = self.most_lost = np.float32(0.0)
        self.blocks: list[tuple[slice, jax.Array]] = []
        with np.errstate(all="ignore"), computing():
            for i in range(0, number, size):  # a block's copies at a time
                own = slice(i, i + size)
                some = self.queries[np.minimum(np.arange(i, i + size), len(queries) - 1)]
                rounded = some.astype(jnp.bfloat16)
                self.squares[own] = squares_of(some)
                self.lost[own] = squares_of(some - rounded.astype(np.float32))
                self.blocks.append((own, jnp.asarray(rounded.T)))
            self.squares, self.lost = self.squares[: len(queries)], self.lost[: len(queries)]
            self.spaces = [jnp.zeros((rows, size), jnp.float32) for _ in range(AHEAD + 1)]
        self.kept = Kept(number, k, spare, unchanged)
        # The scores [c, q] that the device computes while others are looked at, since it divides a
        # product among the cores without knowing which are busy: of which queries, of how many
        # rows, and the number of the first.
        self.waiting: deque[tuple[slice, jax.Array, int, int]] = deque()

    def look(self, piece: np.ndarray) -> None:
        """Compare with the next rows of the corpus, however many."""
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            # What is not finite leaves all queries unsure.
            with np.errstate(all="ignore"), computing():
                vectors = jnp.asarray(self.rounded(some))
                for own, queries in self.blocks:
                    scores = products(vectors, queries, self.spaces.pop())
                    self.waiting.append((own, scores, len(some), self.first))
                    self.finish(AHEAD)
            self.first += len(some)

    def rounded(self, piece: np.ndarray) -> np.ndarray:
        """The rows as they are compared, in bfloat16, and zeros behind them up to self.rows."""
        rounded = np.zeros((self.rows, piece.shape[1]), jnp.bfloat16)
        for start in range(0, len(piece), STEP):
            some = piece[start : start + STEP]
            if self.kind == "cosine":
                some, lengths = with_lengths(some)
                some = some / lengths
            own = rounded[start : start + len(some)]
            own[:] = some
            # NaN stays in a maximum.
            self.longest = np.maximum(self.longest, squares_of(some).max())
            lost = squares_of(some - own.astype(np.float32))
            self.most_lost = np.maximum(self.most_lost, lost.max())
        return rounded

    def finish(self, ahead: int = 0) -> None:
        """Keep the best of all scores but those of the last products, which go on meanwhile."""
        while len(self.waiting) > ahead:
            own, device, rows, first = self.waiting.popleft()
            ready: Any = device.block_until_ready()
            scores = np.from_dlpack(ready)
            if rows < len(scores):
                scores = np.array(scores)
                scores[rows:] = -np.inf
            blocks = scores.reshape(-1, TOGETHER, scores.shape[1])
            self.kept.keep(own, blocks, blocks.max(axis=1), first)
            del scores, blocks  # while memory is looked at, no product may take it
            self.spaces.append(device)

    def answers(self, corpus: Floats, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """scores float32 [q, k], rows int64 [q, k], and sure [q]: of which they are proven.

        corpus is what the pieces came from.
        """
        self.finish()
        number, kept = len(self.queries), self.kept.k
        scores, rows = np.empty((number, k), np.float32), np.empty((number, k), np.int64)
        size = min(AGAIN, max(1, self.spare // (16 * kept * self.queries.shape[1])))
        with np.errstate(all="ignore"):
            for start in range(0, number, size):
                own = slice(start, min(start + size, number))
                ordered = np.sort(self.kept.rows[own], axis=1)  # of equal scores the lower row
                found = self.again(self.queries[own], corpus.at(ordered.ravel()))
                order = np.argsort(-found, axis=1, kind="stable")[:, :k]
                scores[own] = np.take_along_axis(found, order, axis=1)
                rows[own] = np.take_along_axis(ordered, order, axis=1)
            sure = scores[:, -1] > self.kept.scores[:number, -1] + self.errors()
        return scores, rows, sure

    def again(self, queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """The scores [q, r] in float32 of queries with r rows each, vectors [q r, d] in all."""
        if self.kind == "dot":
            return paired(queries, vectors)
        vectors, lengths = with_lengths(vectors)
        return clipped(paired(queries, vectors) / lengths.reshape(len(queries), -1))

    def errors(self) -> np.ndarray:
        """The most [q] by which a score in float32 is above that of the first look.

        q . c - q' . c' = (q - q') . c + q' . (c - c') for what is rounded to q' and c'; to that
        come the roundings of both products, whose sums are in any order.
        Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
        """
        length, lost = np.sqrt(self.squares.astype(float)), np.sqrt(self.lost.astype(float))
        longest, most_lost = np.sqrt(float(self.longest)), np.sqrt(float(self.most_lost))
        roundings = 4.0 * (self.queries.shape[1] + 8) * 2.0**-24
        errors = lost * longest + (length + lost) * most_lost + roundings * length * longest
        # Outside, numbers are lost that are too small, or too large; so is NaN.
        in_range = (self.squares > SMALLEST) & (self.squares < LARGEST)
        in_range &= bool(SMALLEST < self.longest < LARGEST)
        return np.where(in_range, MARGIN * errors, np.inf)
