"""Vectors in fewer bits by their own ranges, however few they are."""

from typing import Any

import numpy as np

from jaxbert.errors import warn_caller
from jaxbert.inference.quantise import FEWEST, Ranges, quantize_embeddings


class FewVectorsWarning(UserWarning):
    """Bytes were made by the ranges of few vectors, so that they depend on each other."""


def quantised(vectors: np.ndarray, precision: Any) -> np.ndarray:
    """The vectors in a precision; ranges are those of the vectors, with a warning for few.

    Differs: Embedder.encode refuses fewer than 100 vectors without ranges.
    """
    if precision in (None, "float32"):
        return vectors
    ranges = None
    if precision in ("int8", "uint8") and 0 < len(vectors) < FEWEST:
        ranges = Ranges.of(vectors)
        warn_caller(
            f"{precision} was made by the ranges of these {len(vectors)} vectors alone, so their "
            "bytes cannot be compared with others; use jaxbert.Ranges",
            FewVectorsWarning,
        )
    return quantize_embeddings(vectors, precision, ranges)
