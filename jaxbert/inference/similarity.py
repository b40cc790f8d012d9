"""How alike two lists of vectors are."""

import numpy as np

from jaxbert.arguments import array
from jaxbert.errors import InputError
from jaxbert.model.head import SMALLEST_NORM

# The names that scipy has for them; negated, so that larger is always more alike.
DISTANCES = {"euclidean": "euclidean", "manhattan": "cityblock"}
# Between these a component's square keeps its digits in float32, in a sum of many too.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-12, 1e12


def unit_length(x: np.ndarray) -> np.ndarray:
    """x / ||x|| over the last axis in float32, for vectors of any length; a zero vector stays zero.

    Those whose squares float32 cannot hold are divided by their largest component first.
    Differs: sentence-transformers gives 0, or x / 1e-12, for those.
    """
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    held = (largest > SMALLEST_SQUARE) & (largest < LARGEST_SQUARE) | (largest == 0.0)
    if not held.all():
        x = x / np.where(held, np.float32(1.0), largest)
    norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True, dtype=np.float32))
    return x / np.maximum(norm, np.float32(SMALLEST_NORM))


def similarity(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [m, d] -> [n, m] in float32: cosine in [-1, 1], dot, or a negative distance.

    Source: sentence-transformers 6.2, util/similarity.py.
    """
    a, b = both(a, b)
    if kind in DISTANCES:
        from scipy.spatial.distance import cdist  # a third of a second to import

        return single(-cdist(a, b, DISTANCES[kind]))
    if kind == "cosine":
        return np.clip(unit_length(a) @ unit_length(b).T, -1.0, 1.0)
    with np.errstate(over="ignore"):
        return a @ b.T


def similarity_pairwise(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [n, d] -> [n] in float32: what `similarity` has on its diagonal.

    Source: sentence-transformers 6.2, util/similarity.py.
    """
    a, b = both(a, b)
    if len(a) != len(b):
        raise InputError(f"{len(a)} vectors cannot be paired with {len(b)}; pass as many of both")
    if kind == "cosine":
        return np.clip((unit_length(a) * unit_length(b)).sum(axis=-1), -1.0, 1.0)
    if kind == "dot":
        with np.errstate(over="ignore"):
            return (a * b).sum(axis=-1)
    apart = a.astype(np.float64) - b
    if kind == "manhattan":
        return single(-np.abs(apart).sum(axis=-1))
    return single(-np.sqrt(np.square(apart).sum(axis=-1)))


def single(x: np.ndarray) -> np.ndarray:
    """float64 as float32; what is beyond it becomes infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def both(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 lists of vectors of one width; a single vector is a list of one.

    Raises InputError for what is no such list, or holds a number that is not finite in float32.
    """
    with np.errstate(over="ignore"):
        a, b = (np.atleast_2d(array(x, "vectors").astype(np.float32)) for x in (a, b))
    if a.ndim != 2 or b.ndim != 2:
        raise InputError(f"vectors come as [n, d], not as {a.shape} and {b.shape}")
    if a.shape[1] != b.shape[1]:
        raise InputError(f"vectors of width {a.shape[1]} and {b.shape[1]} cannot be compared")
    for x in (a, b):
        finite = np.isfinite(x).all(axis=1)
        if not finite.all():
            raise InputError(
                f"vector {int(np.argmin(finite))} holds a number that is not finite in float32; "
                "leave it out"
            )
    return a, b
