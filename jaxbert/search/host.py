"""A search on the host, by NumPy: where JAX computes on a CPU, and anywhere for few queries.

A product by BLAS takes less time than a copy to a device and back, and what is no better than the
best k so far is put aside by one comparison, of which XLA's selection of the best knows nothing.
"""

from functools import cache
from typing import ClassVar

import numpy as np

from jaxbert.inference.products import BLOCK, SOME, products
from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import check_scores

# Up to so many queries are searched on the host, wherever JAX computes (notes/07).
FEW = 32
# Rows of a piece for so many queries, and for more: what one core's cache holds of the scores.
PIECES, LONG_PIECE = {4: 8192, SOME: 2048}, 4096
# Numbers of queries for which that is tried.
TRIED = (4, FEW, SOME, 1024)
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
    scores = products(asked, np.repeat(row, 3 * BLOCK, axis=0))
    return bool((scores == scores[:, :1]).all())


def compared(queries: np.ndarray, piece: np.ndarray, kind: str) -> np.ndarray:
    """The scores [q, c]; cosines of queries of length one are divided by the piece's lengths.

    What is not finite becomes infinity, on top, to be refused.
    """
    if kind == "dot":
        scores = products(queries, piece)
        # To look at the vectors costs less than to look at the scores of many queries.
        if len(queries) <= FEW or not surely_finite(queries, piece):
            scores[~np.isfinite(scores)] = np.inf
        return scores
    squares = np.einsum("cd,cd->c", piece, piece)
    outside = ~((squares > SMALLEST) & (squares < LARGEST))
    if outside.any():  # of these rows alone, so that no row's score depends on another row
        piece = np.where(outside[:, None], unit_length(piece), piece)
        squares = np.where(outside, np.float32(1.0), squares)
    scores = products(queries, piece)
    scores /= np.sqrt(squares)
    np.clip(scores, -1.0, 1.0, out=scores)
    if outside.any():
        scores[~np.isfinite(scores)] = np.inf
    return scores


def surely_finite(queries: np.ndarray, piece: np.ndarray) -> bool:
    """Whether |q| |c|, which no |q . c| exceeds, is far from float32's end for all of them."""
    largest = (float(np.einsum("nd,nd->n", x, x).max(initial=0.0)) for x in (queries, piece))
    return bool(np.prod(list(largest)) < FINITE)


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
        self.chosen = max(1, spare // (CANDIDATE * (rows + k)))  # queries at a time
        self.scores = np.full((len(queries), k), -np.inf, np.float32)
        self.indices = np.full((len(queries), k), -1, np.int64)

    def look(self, piece: np.ndarray) -> None:
        """Compare with the next rows of the corpus, however many."""
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            for query in range(0, len(self.queries), self.at_once):
                own = slice(query, query + self.at_once)
                with np.errstate(all="ignore"):  # what is not finite is refused by its score
                    scores = compared(self.queries[own], some, self.kind)
                for i in range(0, len(scores), self.chosen):
                    few = slice(i, i + self.chosen)
                    self.keep(scores[few], self.scores[own][few], self.indices[own][few])
            self.first += len(some)

    def keep(self, scores: np.ndarray, found: np.ndarray, found_rows: np.ndarray) -> None:
        """Keep the k best of what was found and of a piece [q, c]; of equal scores earlier rows."""
        least = found[:, -1:]  # a row that is no better comes behind all of these
        if self.first < self.k < scores.shape[1]:
            # The first piece: what is not among its own best k is not among all.
            kth = np.partition(scores, -self.k, axis=1)[:, -self.k, None]
            least = np.maximum(least, np.nextafter(kth, np.float32(-np.inf)))
        query, row = np.divmod(np.flatnonzero(scores > least), scores.shape[1])
        if not len(query):
            return
        changed, starts, counts = np.unique(query, return_index=True, return_counts=True)
        place = np.arange(len(query)) - np.repeat(starts, counts)
        line = np.repeat(np.arange(len(changed)), counts)
        better = np.full((len(changed), int(counts.max())), -np.inf, np.float32)
        rows = np.full(better.shape, -1, np.int64)
        better[line, place], rows[line, place] = scores[query, row], row + self.first
        together = np.concatenate([found[changed], better], axis=1)
        order = np.argsort(-together, axis=1, kind="stable")[:, : self.k]
        indices = np.concatenate([found_rows[changed], rows], axis=1)
        found[changed] = np.take_along_axis(together, order, axis=1)
        found_rows[changed] = np.take_along_axis(indices, order, axis=1)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """scores float32 [q, k] and indices int64 [q, k], k being at most the rows looked at."""
        k = min(self.k, self.first)
        scores, indices = self.scores[:, :k], self.indices[:, :k]
        check_scores(scores, indices)
        return scores, indices
