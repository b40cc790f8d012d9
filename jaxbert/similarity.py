"""How alike two lists of vectors are."""

import numpy as np

from jaxbert.errors import InputError
from jaxbert.model.head import SMALLEST_NORM

# The names that scipy has for them; negated, so that larger is always more alike.
DISTANCES = {"euclidean": "euclidean", "manhattan": "cityblock"}


def unit_length(x: np.ndarray) -> np.ndarray:
    """x / max(||x||, 1e-12) over the last axis, in float32."""
    norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True, dtype=np.float32))
    return x / np.maximum(norm, np.float32(SMALLEST_NORM))


def similarity(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [m, d] -> [n, m] in float32: cosine, dot, or a negative distance.

    Source: sentence-transformers 6.2, util/similarity.py.
    """
    a, b = both(a, b)
    if kind in DISTANCES:
        from scipy.spatial.distance import cdist  # a third of a second to import

        return (-cdist(a, b, DISTANCES[kind])).astype(np.float32)
    if kind == "cosine":
        a, b = unit_length(a), unit_length(b)
    return a @ b.T


def similarity_pairwise(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [n, d] -> [n] in float32: what `similarity` has on its diagonal.

    Source: sentence-transformers 6.2, util/similarity.py.
    """
    a, b = both(a, b)
    if len(a) != len(b):
        raise InputError(f"{len(a)} vectors cannot be paired with {len(b)}; pass as many of both")
    if kind == "manhattan":
        return -np.abs(a - b).sum(axis=-1)
    if kind == "euclidean":
        return -np.sqrt(np.square(a - b).sum(axis=-1))
    if kind == "cosine":
        a, b = unit_length(a), unit_length(b)
    return (a * b).sum(axis=-1)


def both(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 lists of vectors of one width; a single vector is a list of one."""
    a, b = np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32))
    if a.ndim != 2 or b.ndim != 2:
        raise InputError(f"vectors come as [n, d], not as {a.shape} and {b.shape}")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"vectors of width {a.shape[1]} and {b.shape[1]} cannot be compared")
    return a, b
