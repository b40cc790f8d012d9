"""A search for few queries, by NumPy: their products take less time than a copy to a device."""

from typing import ClassVar

import numpy as np

from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import check_scores

# Up to so many queries; beyond, XLA's selection of the best of each is faster (notes/07).
FEW = 32
# Rows of a piece, and the number of which BLAS computes all alike, on every instruction set.
ROWS, BLOCK = 8192, 64
# Between these a sum of squares is exact enough in float32.
SMALLEST, LARGEST = 1e-12, 1e12


def products(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """queries [q, d] times the piece [c, d], [q, c]; BLAS is faster with the long side first.

    Rows are filled up to a multiple of BLOCK, since BLAS rounds those at the edge otherwise, and
    equal rows are to have equal scores.
    """
    c, d = piece.shape
    if more := -c % BLOCK:
        piece = np.concatenate([piece, np.zeros((more, d), piece.dtype)])
    return np.ascontiguousarray((piece @ queries.T).T[:, :c])


def compared(queries: np.ndarray, piece: np.ndarray, kind: str) -> np.ndarray:
    """The scores [q, c]; cosines of queries of length one are divided by the piece's lengths."""
    if kind == "dot":
        return products(queries, piece)
    squares = np.einsum("cd,cd->c", piece, piece)
    outside = ~((squares > SMALLEST) & (squares < LARGEST))
    if outside.any():  # of these rows alone, so that no row's score depends on another row
        piece = np.where(outside[:, None], unit_length(piece), piece)
        squares = np.where(outside, np.float32(1.0), squares)
    return np.clip(products(queries, piece) / np.sqrt(squares), -1.0, 1.0)


class FewQueries:
    """Queries that look at one piece of a corpus after another; `result` is what they found."""

    kinds: ClassVar[tuple[str, ...]] = ("cosine", "dot")

    def __init__(self, queries: np.ndarray, kind: str, k: int) -> None:
        """queries [q, d] in float32, kind one of `kinds`."""
        self.queries = unit_length(queries) if kind == "cosine" else queries
        self.kind, self.k, self.first = kind, k, 0
        self.scores = [np.zeros(0, np.float32) for _ in queries]
        self.indices = [np.zeros(0, np.int64) for _ in queries]
        # Huge k are sorted after many rows, since each sort looks at all that is kept.
        self.rows = max(ROWS, k)

    def look(self, piece: np.ndarray) -> None:
        """Compare with the next rows of the corpus, however many."""
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            with np.errstate(all="ignore"):  # what is not finite is refused by its score
                scores = compared(self.queries, some, self.kind)
            scores[~np.isfinite(scores)] = np.inf
            for query, own in enumerate(scores):
                self.add(query, own)
            self.first += len(some)

    def add(self, query: int, scores: np.ndarray) -> None:
        """Keep the k best of what was found and of a piece; of equal scores the earlier rows."""
        found = self.scores[query]
        # A row that is no better than the last that was found comes behind it.
        better = np.flatnonzero(scores > found[-1] if len(found) == self.k else scores > -np.inf)
        if len(better):
            together = np.concatenate([found, scores[better]])
            order = np.argsort(-together, kind="stable")[: self.k]
            rows = np.concatenate([self.indices[query], better + self.first])
            self.scores[query], self.indices[query] = together[order], rows[order]

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """scores float32 [q, k] and indices int64 [q, k], k being at most the rows looked at."""
        scores, indices = np.stack(self.scores), np.stack(self.indices)
        check_scores(scores, indices)
        return scores, indices
