"""Products of two lists of vectors by BLAS, in which equal rows have equal scores."""

import numpy as np

# The number of rows of which BLAS computes all alike, where it does so at all.
BLOCK = 64
# Up to so many scores OpenBLAS takes another kernel, which rounds otherwise (0.3.31: 1200).
SMALL = 1280
# Up to so many queries BLAS is faster with the long side first, also where a copy follows.
SOME = 256


def filled_rows(rows: int, queries: int) -> int:
    """The rows of a product of so many: a multiple of BLOCK, and not too few for its queries."""
    least = max(rows, -(-SMALL // max(queries, 1)))
    return least + -least % BLOCK


def filled(piece: np.ndarray, queries: int) -> np.ndarray:
    """The piece [c, d] with rows of zeros up to `filled_rows`.

    BLAS rounds rows at the edge otherwise, and those of small products; equal rows are to have
    equal scores.
    """
    if more := filled_rows(len(piece), queries) - len(piece):
        return np.concatenate([piece, np.zeros((more, piece.shape[1]), piece.dtype)])
    return np.ascontiguousarray(piece)


def products(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """queries [q, d] times the piece [c, d], [q, c]; equal rows of the piece have equal scores."""
    c, rows = len(piece), filled(piece, len(queries))
    if len(queries) > SOME:
        return (queries @ rows.T)[:, :c]
    return np.ascontiguousarray((rows @ queries.T).T[:, :c])
