"""A search on the host, by NumPy: where JAX computes on a CPU, and anywhere for few queries.

A product by BLAS takes less time than a copy to a device and back.
"""

from functools import cache
from typing import ClassVar

import numpy as np

from jaxbert.inference.products import BLOCK, SMALL, SOME, filled, filled_rows
from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import check_scores
from jaxbert.search.kept import Kept

# Up to so many queries are searched on the host, wherever JAX computes (notes/07).
FEW = 32
# Rows of a piece for so many queries, and for more: what one core's cache holds of the scores.
PIECES, LONG_PIECE = {4: 8192, SOME: 2048}, 4096
# Numbers of queries for which that is tried.
TRIED = (4, FEW, SOME, 1024)
# Rows of which only the highest score is compared first, for more than FEW queries.
TOGETHER = 16
# Scores that are compared as soon as they are there, while they are in the caches of the cores.
FRESH = 2**20
# The square of a number that is far from float32's end.
FINITE = 1e75
# Between these a sum of squares is exact enough in float32.
SMALLEST, LARGEST = 1e-12, 1e12


def piece_rows(queries: int) -> int:
    """The rows of a piece for so many queries."""
    return next((rows for most, rows in PIECES.items() if queries <= most), LONG_PIECE)


@cache
def rounds_alike(queries: int, width: int) -> bool:
    """Whether BLAS gives equal rows equal products here, for so many queries.

    OpenBLAS' kernels for AVX2 alone (Haswell, Zen 3) round rows by their place, from 8 queries on.
    """
    random = np.random.default_rng(0)
    row, asked = (random.normal(size=(n, width)).astype(np.float32) for n in (1, queries))
    pieces = (np.repeat(row, rows, axis=0) for rows in (1, 3 * BLOCK, piece_rows(queries)))
    scores = np.concatenate([products_by_row(asked, piece)[: len(piece)] for piece in pieces])
    return bool((scores == scores[:1]).all())


def products_by_row(
    queries: np.ndarray, piece: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """The piece [c, d] times queries [q, d], [c', q] with c' = filled_rows(c, q).

    out is where it goes, None for new memory, which takes a twentieth of the time of the product.
    """
    return np.matmul(filled(piece, len(queries)), queries.T, out=out)


def dots(
    queries: np.ndarray, piece: np.ndarray, longest: float, out: np.ndarray | None = None
) -> np.ndarray:
    """The products [c', q] by row; longest is the largest |q|^2.

    What is not finite becomes infinity, on top, to be refused.
    """
    scores = products_by_row(queries, piece, out)
    # To look at the vectors costs less than to look at the scores of many queries: no |q . c|
    # exceeds |q| |c|, and no |c| the root of all squares.
    if len(queries) <= FEW or not longest * float(np.vdot(piece, piece)) < FINITE:
        scores[~np.isfinite(scores)] = np.inf
    return scores


def cosines(queries: np.ndarray, piece: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """The cosines [c', q] by row of queries of length one, which rounding may put beyond 1.

    What is not finite becomes infinity, on top, to be refused.
    """
    rows, lengths = with_lengths(piece)
    if len(queries) > piece.shape[1]:  # the vectors are fewer numbers than the scores
        scores = products_by_row(queries, rows / lengths, out)
    else:
        scores = products_by_row(queries, rows, out)
        scores[: len(piece)] /= lengths
    if rows is not piece:
        scores[~np.isfinite(scores)] = np.inf
    return scores


def with_lengths(piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows [c, d] and their lengths [c, 1]; the piece itself where all squares are in range.

    Rows of which they are not are divided by their length, and zeros stay zeros: these rows alone,
    so that no row's score depends on another row.
    """
    squares = squares_of(piece)
    outside = ~((squares > SMALLEST) & (squares < LARGEST))
    if outside.any():
        piece = np.where(outside[:, None], unit_length(piece), piece)
        squares = np.where(outside, np.float32(1.0), squares)
    return piece, np.sqrt(squares)[:, None]


def squares_of(x: np.ndarray) -> np.ndarray:
    """The squared length |x|^2 of each row."""
    return np.einsum("nd,nd->n", x, x)


def largest(x: np.ndarray) -> float:
    """The largest of some numbers that are not negative, 0 of none."""
    return float(x.max(initial=0.0))


def clipped(scores: np.ndarray) -> np.ndarray:
    """Cosines, in place, in [-1, 1], but for infinity."""
    if scores.size and not -1.0 <= scores.min() <= scores.max() <= 1.0:
        np.clip(scores, -1.0, 1.0, out=scores, where=np.isfinite(scores))
    return scores


def unchanged(scores: np.ndarray) -> np.ndarray:
    """The scores, as they are."""
    return scores


def compared(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The cosines [q, c] of queries of length one; infinity for what is not finite."""
    return np.ascontiguousarray(clipped(cosines(queries, piece)[: len(piece)]).T)


class HostSearch:
    """Queries that look at one piece of a corpus after another; `result` is what they found."""

    kinds: ClassVar[tuple[str, ...]] = ("cosine", "dot")

    def __init__(
        self, queries: np.ndarray, kind: str, k: int, at_once: int, rows: int, spare: int
    ) -> None:
        """queries [q, d] in float32, kind one of `kinds`.

        at_once queries are compared with so many rows together, which bounds the scores in memory;
        spare is in bytes, for the choice of the best among them.
        """
        self.queries = unit_length(queries) if kind == "cosine" else queries
        self.kind, self.at_once, self.rows, self.first = kind, at_once, rows, 0
        self.longest = largest(squares_of(queries))
        self.kept = Kept(len(queries), k, spare, clipped if kind == "cosine" else unchanged)
        # The highest scores of rows together tell the more, the fewer of them are among the best.
        many = len(queries) > FEW and rows >= 2 * TOGETHER * k
        self.together = TOGETHER if many else 1
        # Memory that is used again, since to be given it takes a twentieth of a product's time.
        most = min(at_once, len(queries))
        self.space = np.empty(filled_rows(rows, most) * most + 2 * SMALL, np.float32)

    def look(self, piece: np.ndarray) -> None:
        """Compare with the next rows of the corpus, however many."""
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            for query in range(0, len(self.queries), self.at_once):
                own = slice(query, query + self.at_once)
                with np.errstate(all="ignore"):  # what is not finite is refused by its score
                    blocks, highest = self.compare(self.queries[own], some)
                    self.kept.keep(own, blocks, highest, self.first)
            self.first += len(some)

    def compare(self, queries: np.ndarray, piece: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scores [b, r, q] of blocks of r rows of a piece, and the highest [b, q] of each.

        Those of rows behind the piece's are -infinity.
        """
        shape = (filled_rows(len(piece), len(queries)), len(queries))
        scores = self.space[: shape[0] * shape[1]].reshape(shape)
        blocks = scores.reshape(-1, self.together, len(queries))
        highest = np.empty((len(blocks), len(queries)), np.float32) if self.together > 1 else scores
        step = max(BLOCK, FRESH // len(queries) // BLOCK * BLOCK)
        for start in range(0, len(piece), step):
            some = piece[start : start + step]
            own = scores[start : start + step]
            if self.kind == "cosine":
                cosines(queries, some, own)
            else:
                dots(queries, some, self.longest, own)
            own[len(some) :] = -np.inf
            if self.together > 1:
                few = slice(start // self.together, (start + step) // self.together)
                np.max(blocks[few], axis=1, out=highest[few])
        return blocks, self.kept.within(highest)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """scores float32 [q, k] and indices int64 [q, k], k being at most the rows looked at."""
        k = min(self.kept.k, self.first)
        scores, indices = self.kept.scores[:, :k], self.kept.rows[:, :k]
        check_scores(scores, indices)
        return scores, indices
