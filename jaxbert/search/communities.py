"""Groups of vectors that are all similar to one of them.

Source: sentence-transformers 6.2, util/retrieval.py, for the definition.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxbert.arguments import array, integer
from jaxbert.errors import InputError
from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import floats_of, in_float32, rows_of
from jaxbert.search.host import compared
from jaxbert.search.searching import BUDGET, filled, pieces

# Vectors that are read at a time.
ROWS = 1024
# Vectors compared with them at a time: always as many, zeros among them, since BLAS rounds
# a product by its shape, and a score at the threshold is to be the same whenever it is computed.
AT_ONCE = 64


def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    *,
    budget: int = BUDGET,
) -> list[np.ndarray]:
    """Communities, the largest first, each an int64 array of rows whose first is the centre.

    The community of a row are the rows whose cosine to it is at least the threshold, by falling
    cosine. Those of at least min_community_size rows are taken, larger ones before smaller ones; a
    row belongs to the first that takes it, a row that belongs to one is no centre any more, and a
    community that others have left too small is none. Scores are computed twice, and vectors are
    read a piece at a time (a np.memmap is not copied), so that the scores in memory are those of
    one row or within the budget, however many rows are similar. Raises InputError as `top_k` does.
    """
    vectors = checked(rows_of(embeddings, "embeddings"))
    least = integer(min_community_size, "min_community_size", 1)
    given = array(threshold, "threshold")
    if given.ndim or not np.isfinite(given):
        raise InputError("threshold is no finite number; pass a cosine such as 0.75")
    bound = given.astype(np.float32)
    rows = max(1, integer(budget, "budget", 1, 2**62) // (8 * max(1, len(vectors))))
    rows = min(rows, AT_ONCE)
    size = np.zeros(len(vectors), np.int64)
    for start, stop in pieces(len(vectors), AT_ONCE):
        for _, scores in cosines(vectors, np.arange(start, stop)):
            size[start:stop] += (scores >= bound).sum(axis=1)
    order = np.argsort(-size, kind="stable")
    order = order[: np.searchsorted(-size[order], -least, side="right")]
    used = np.zeros(len(vectors), bool)
    found = []
    for start in range(0, len(order), rows):
        centres = order[start : start + rows]
        centres = centres[~used[centres]]
        for centre, own in zip(centres, rows_of_cosines(vectors, centres), strict=True):
            if not used[centre]:
                members = np.flatnonzero((own >= bound) & ~used)
                if len(members) >= least:
                    members = members[np.argsort(-own[members], kind="stable")]
                    members = np.concatenate([[centre], members[members != centre]])
                    used[members] = True
                    found.append(members)
    return sorted(found, key=len, reverse=True)


def cosines(vectors: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The cosines [r, c] of at most AT_ONCE rows with each piece of all, and its first row."""
    unit = filled(unit_length(in_float32(vectors[rows])), AT_ONCE)
    for first, stop in pieces(len(vectors), ROWS):
        yield first, compared(unit, in_float32(vectors[first:stop]))[: len(rows)]


def rows_of_cosines(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The cosines [r, n] of at most AT_ONCE rows with all; vectors are not copied."""
    scores = np.empty((len(rows), len(vectors)), np.float32)
    if len(rows):
        for first, own in cosines(vectors, rows):
            scores[:, first : first + own.shape[1]] = own
    return scores


def checked(vectors: np.ndarray) -> np.ndarray:
    """The vectors as they are. Raises InputError for a number that is not finite in float32."""
    for first, stop in pieces(len(vectors), ROWS):
        floats_of(vectors[first:stop], "embeddings", first)
    return vectors
