"""Groups of vectors that are all similar to one of them.

Source: sentence-transformers 6.2, util/retrieval.py, for the definition.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxbert.arguments import array, integer
from jaxbert.errors import InputError
from jaxbert.inference.similarity import unit_length
from jaxbert.search.checks import floats_of, rows_of
from jaxbert.search.searching import BUDGET


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
    community that others have left too small is none. Scores are computed twice, so that memory
    stays within the budget however many rows are similar. Raises InputError as `top_k` does.
    """
    unit = unit_length(floats_of(rows_of(embeddings, "embeddings"), "embeddings"))
    least = integer(min_community_size, "min_community_size", 1)
    given = array(threshold, "threshold")
    if given.ndim or not np.isfinite(given):
        raise InputError("threshold is no finite number; pass a cosine such as 0.75")
    bound = given.astype(np.float32)
    rows = max(1, integer(budget, "budget", 1, 2**62) // (8 * max(1, len(unit))))
    size = np.zeros(len(unit), np.int64)
    for some, scores in blocks(unit, range(len(unit)), rows):
        size[some] = (scores >= bound).sum(axis=1)
    order = np.argsort(-size, kind="stable")
    order = order[: np.searchsorted(-size[order], -least, side="right")]
    used = np.zeros(len(unit), bool)
    found = []
    for start in range(0, len(order), rows):
        centres = order[start : start + rows]
        for some, scores in blocks(unit, centres[~used[centres]], rows):
            for centre, own in zip(some, scores, strict=True):
                if not used[centre]:
                    members = np.flatnonzero((own >= bound) & ~used)
                    if len(members) >= least:
                        members = members[np.argsort(-own[members], kind="stable")]
                        members = np.concatenate([[centre], members[members != centre]])
                        used[members] = True
                        found.append(members)
    return sorted(found, key=len, reverse=True)


def blocks(
    unit: np.ndarray, rows: Sequence[int] | range | np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some of the rows at a time, with their cosines [r, n] with all."""
    chosen = np.asarray(rows, np.int64)
    for start in range(0, len(chosen), size):
        some = chosen[start : start + size]
        yield some, unit[some] @ unit.T
