"""A search on the host, by NumPy: where JAX computes on a CPU, and anywhere for few queries.

A product by BLAS takes less time than a copy to a device and back, and what is no better than the
best k so far is put aside by one comparison, of which XLA's selection of the best knows nothing.
"""

from functools import cache
from typing import ClassVar

import numpy as np

from jaxbert.inference.products import BLOCK, SMALL, SOME, filled, filled_rows
from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import check_scores

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
# Bytes that `keep` takes for a row of a piece that may be among the best, and for one that is.
CANDIDATE = 80
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
    squares = squares_of(piece)
    outside = ~((squares > SMALLEST) & (squares < LARGEST))
    if outside.any():  # of these rows alone, so that no row's score depends on another row
        piece = np.where(outside[:, None], unit_length(piece), piece)
        squares = np.where(outside, np.float32(1.0), squares)
    lengths = np.sqrt(squares)[:, None]
    if len(queries) > piece.shape[1]:  # the vectors are fewer numbers than the scores
        scores = products_by_row(queries, piece / lengths, out)
    else:
        scores = products_by_row(queries, piece, out)
        scores[: len(piece)] /= lengths
    if outside.any():
        scores[~np.isfinite(scores)] = np.inf
    return scores


def squares_of(x: np.ndarray) -> np.ndarray:
    """The squared length |x|^2 of each row."""
    return np.einsum("nd,nd->n", x, x)


def largest(x: np.ndarray) -> float:
    """The largest of some numbers that are not negative, 0 of none."""
    return float(x.max(initial=0.0))


def within(scores: np.ndarray, kind: str) -> np.ndarray:
    """The scores, in place: cosines in [-1, 1], but for infinity."""
    if kind == "cosine" and scores.size and not -1.0 <= scores.min() <= scores.max() <= 1.0:
        np.clip(scores, -1.0, 1.0, out=scores, where=np.isfinite(scores))
    return scores


def compared(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """The cosines [q, c] of queries of length one; infinity for what is not finite."""
    return np.ascontiguousarray(within(cosines(queries, piece)[: len(piece)], "cosine").T)


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
        self.kind, self.k, self.at_once, self.rows, self.first = kind, k, at_once, rows, 0
        self.spare, self.longest = spare, largest(squares_of(queries))
        # The highest scores of rows together tell the more, the fewer of them are among the best.
        many = len(queries) > FEW and rows >= 2 * TOGETHER * k
        self.together = TOGETHER if many else 1
        # Memory that is used again, since to be given it takes a twentieth of a product's time.
        most = min(at_once, len(queries))
        self.space = np.empty(filled_rows(rows, most) * most + 2 * SMALL, np.float32)
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        self.indices = np.full((len(queries), k), -1, np.int64)

    def look(self, piece: np.ndarray) -> None:
        """Compare with the next rows of the corpus, however many."""
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            for query in range(0, len(self.queries), self.at_once):
                own = slice(query, query + self.at_once)
                with np.errstate(all="ignore"):  # what is not finite is refused by its score
                    blocks, highest = self.compare(self.queries[own], some)
                    self.keep(blocks, highest, self.scores[own], self.indices[own])
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
        return blocks, within(highest, self.kind)

    def keep(
        self, blocks: np.ndarray, highest: np.ndarray, found: np.ndarray, found_rows: np.ndarray
    ) -> None:
        """Keep the k best of what was found and of blocks; of equal scores earlier rows."""
        least = found[:, -1]  # a row that is no better comes behind all of these
        better = highest > least
        number = np.count_nonzero(better)
        if self.k < len(highest) and number > 2 * self.k * len(least):
            # The k highest are scores of k rows: what is below all of them is not among the best.
            kth = np.partition(highest, -self.k, axis=0)[-self.k]
            least = np.maximum(least, np.nextafter(kth, np.float32(-np.inf)))
            better = highest > least
        if not number:
            return
        # In uint16, which is faster to add up: a piece has fewer rows than that.
        most = int(better.view(np.uint8).sum(axis=0, dtype=np.uint16).max()) * self.together
        size = max(1, self.spare // (CANDIDATE * (most + self.k)))
        for i in range(0, len(found), size):
            few = slice(i, i + size)
            own = self.candidates(blocks[:, :, few], better[:, few], least[few])
            self.merge(*own, found[few], found_rows[few])

    def candidates(
        self, blocks: np.ndarray, better: np.ndarray, least: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, row, score) of what is above the least, by query and then by row.

        Of blocks [b, r, q] only those are looked at that are better [b, q].
        """
        block, query = np.divmod(np.flatnonzero(better), better.shape[1])
        scores = within(blocks[block, :, query], self.kind)  # by block: neighbours share a line
        place, inside = np.nonzero(scores > least[query][:, None])
        rows = block[place] * blocks.shape[1] + inside + self.first
        query, scores = query[place], scores[place, inside]
        order = np.argsort(query.astype(np.uint16), kind="stable")  # no more than QUERIES
        return query[order], rows[order], scores[order]

    def merge(
        self,
        query: np.ndarray,
        rows: np.ndarray,
        scores: np.ndarray,
        found: np.ndarray,
        found_rows: np.ndarray,
    ) -> None:
        """Put candidates, by query and then by row, among the k best that were found."""
        counts = np.bincount(query, minlength=len(found))
        changed = np.flatnonzero(counts)
        place = self.k + np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
        line = (np.cumsum(counts > 0) - 1)[query]
        shape = (len(changed), self.k + int(counts.max()))
        all_scores, all_rows = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64)
        all_scores[:, : self.k], all_rows[:, : self.k] = found[changed], found_rows[changed]
        all_scores[line, place], all_rows[line, place] = scores, rows
        order = np.argsort(-all_scores, axis=1, kind="stable")[:, : self.k]
        found[changed] = np.take_along_axis(all_scores, order, axis=1)
        found_rows[changed] = np.take_along_axis(all_rows, order, axis=1)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """scores float32 [q, k] and indices int64 [q, k], k being at most the rows looked at."""
        k = min(self.k, self.first)
        scores, indices = self.scores[:, :k], self.indices[:, :k]
        check_scores(scores, indices)
        return scores, indices
