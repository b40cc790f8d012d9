"""The best rows of each query so far, on the host, by NumPy.

What is no better than the k-th best so far is put aside by one comparison, of which XLA's selection
of the best knows nothing; only what is better is sorted.
"""

from collections.abc import Callable

import numpy as np

# Bytes that `keep` takes for a row of a piece that may be among the best, and for one that is.
CANDIDATE = 80


class Kept:
    """The k best scores [q, k] of each query, falling, and the rows that have them."""

    def __init__(
        self, queries: int, k: int, spare: int, within: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Nothing is kept yet: -infinity, of row -1.

        spare is in bytes, for the choice of the best; within puts scores into their range, where
        rounding left it, before they are compared.
        """
        self.k, self.spare, self.within = k, spare, within
        self.scores = np.full((queries, k), -np.inf, np.float32)
        self.rows = np.full((queries, k), -1, np.int64)

    def keep(self, own: slice, blocks: np.ndarray, highest: np.ndarray, first: int) -> None:
        """Keep the k best of what some queries have and of a piece; of equal scores earlier rows.

        blocks [b, r, q] are scores of b blocks of r rows, which are rows first, first + 1 ..., and
        highest [b, q] is the highest of each, in its range.
        """
        found, found_rows = self.scores[own], self.rows[own]
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
        most = int(better.view(np.uint8).sum(axis=0, dtype=np.uint16).max()) * blocks.shape[1]
        size = max(1, self.spare // (CANDIDATE * (most + self.k)))
        for i in range(0, len(found), size):
            few = slice(i, i + size)
            query, rows, scores = self.candidates(blocks[:, :, few], better[:, few], least[few])
            self.merge(query, rows + first, scores, found[few], found_rows[few])

    def candidates(
        self, blocks: np.ndarray, better: np.ndarray, least: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(query, row, score) of what is above the least, by query and then by row.

        Of blocks [b, r, q] only those are looked at that are better [b, q].
        """
        block, query = np.divmod(np.flatnonzero(better), better.shape[1])
        scores = self.within(blocks[block, :, query])  # by block: neighbours share a line
        place, inside = np.nonzero(scores > least[query][:, None])
        rows = block[place] * blocks.shape[1] + inside
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
