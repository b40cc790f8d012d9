"""The similarity of two lists of vectors."""

import numpy as np

from jaxbert.arguments import array
from jaxbert.errors import InputError
from jaxbert.inference.products import products
from jaxbert.model.head import SMALLEST_NORM

# scipy's names of the metrics; negated, so that larger always means more similar.
DISTANCES = {"euclidean": "euclidean", "manhattan": "cityblock"}
# Between these the square of a component is exact enough in float32, also in a sum of many.
SMALLEST_SQUARE, LARGEST_SQUARE = 1e-12, 1e12


class OneScore(np.ndarray):
    """The score [1, 1] of two vectors, a number for float() as it is in sentence-transformers."""

    def __float__(self) -> float:
        """The one number; TypeError where there are more."""
        return float(np.asarray(self).item()) if self.size == 1 else float(np.asarray(self))


def unit_length(x: np.ndarray) -> np.ndarray:
    """x / ||x|| over the last axis in float32, for vectors of any length; a zero vector stays zero.

    Vectors whose squares would leave float32's range are divided by their largest component first.
    Differs: sentence-transformers gives 0, or x / 1e-12, for these.
    """
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0.0)
    in_range = (largest > SMALLEST_SQUARE) & (largest < LARGEST_SQUARE) | (largest == 0.0)
    if not in_range.all():
        x = x / np.where(in_range, np.float32(1.0), largest)
    norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True, dtype=np.float32))
    return x / np.maximum(norm, np.float32(SMALLEST_NORM))


def similarity(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [m, d] -> [n, m] in float32: cosine in [-1, 1], dot, or a negative distance.

    Equal vectors have equal scores, wherever they stand.
    Source: sentence-transformers 6.2, util/similarity.py.
    """
    a, b = both(a, b)
    if kind in DISTANCES:
        from scipy.spatial.distance import cdist  # a third of a second to import

        return single(-cdist(a, b, DISTANCES[kind]))
    if kind == "cosine":
        return np.clip(products_of(unit_length(a), unit_length(b)), -1.0, 1.0)
    with np.errstate(over="ignore"):
        return products_of(a, b)


def products_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b.T; the longer list is the one that is filled up, which costs the least."""
    return products(a, b) if len(b) >= len(a) else products(b, a).T


def similarity_pairwise(a: np.ndarray, b: np.ndarray, kind: str) -> np.ndarray:
    """[n, d] and [n, d] -> [n] in float32: the diagonal of `similarity`.

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
    difference = a.astype(np.float64) - b
    if kind == "manhattan":
        return single(-np.abs(difference).sum(axis=-1))
    return single(-np.sqrt(np.square(difference).sum(axis=-1)))


def single(x: np.ndarray) -> np.ndarray:
    """float64 as float32; numbers beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def both(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 lists of vectors of one width; a single vector is a list of one.

    Raises InputError for other shapes, and for a number that is not finite in float32.
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
