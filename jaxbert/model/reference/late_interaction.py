"""Late interaction in float64 NumPy: token vectors and MaxSim, from an encoder's last states.

It imports nothing of jaxbert, and takes tensors by their published names.
ColBERT: Khattab and Zaharia, arXiv:2004.12832, section 3.
"""

from collections.abc import Sequence

import numpy as np

Tensor = np.ndarray


def token_vectors(weight: Tensor, x: Tensor) -> Tensor:
    """W x / max(||W x||, 1e-12) for the states x [..., d] and the tensor linear.weight [w, d]."""
    y = np.asarray(x, np.float64) @ np.asarray(weight, np.float64).T
    return y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-12)


def kept(ids: Tensor, mask: Tensor, skipped: Sequence[int]) -> Tensor:
    """Which tokens [b, t] of documents have a vector: no padding, and none of the skipped ids."""
    return np.asarray(mask).astype(bool) & ~np.isin(ids, list(skipped))


def maxsim(query: Tensor, document: Tensor) -> float:
    """sum over query tokens [t, w] of the largest dot product with a document token [s, w].

    0 for a query without tokens, else -inf for a document without.
    """
    query, document = np.asarray(query, np.float64), np.asarray(document, np.float64)
    return float((query @ document.T).max(axis=1, initial=-np.inf).sum())
