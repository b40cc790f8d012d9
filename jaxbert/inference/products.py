"""Products of two lists of vectors by BLAS, in which equal rows have equal scores."""

import numpy as np

# The number of rows of which BLAS computes all alike, where it does so at all.
BLOCK = 64
# Up to so many queries BLAS is faster with the long side first, also where a copy follows.
SOME = 256


def whole_blocks(piece: np.ndarray) -> np.ndarray:
    """The piece [c, d] with rows of zeros up to a multiple of BLOCK.

    BLAS rounds rows at the edge otherwise, and equal rows are to have equal scores.
    """
    if more := -len(piece) % BLOCK:
        return np.concatenate([piece, np.zeros((more, piece.shape[1]), piece.dtype)])
    return piece


def products(queries: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """queries [q, d] times the piece [c, d], [q, c]; equal rows of the piece have equal scores."""
    c, filled = len(piece), whole_blocks(piece)
    if len(queries) > SOME:
        return (queries @ filled.T)[:, :c]
    return np.ascontiguousarray((filled @ queries.T).T[:, :c])
