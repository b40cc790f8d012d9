"""Products of two lists of vectors by BLAS, in which equal rows have equal scores."""

import numpy as np

# The number of rows of which BLAS computes all alike, where it does so at all.
BLOCK = 64
# Up to so many queries BLAS is faster with the long side first.
SOME = 256


def products(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """queries [q, d] times the piece [c, d], [q, c].

    The piece's rows are filled up to a multiple of BLOCK, since BLAS rounds those at the edge
    otherwise, and equal rows are to have equal scores.
    """
    c, d = piece.shape
    if more := -c % BLOCK:
        piece = np.concatenate([piece, np.zeros((more, d), piece.dtype)])
    if len(queries) > SOME:
        return (queries @ piece.T)[:, :c]
    return np.ascontiguousarray((piece @ queries.T).T[:, :c])
