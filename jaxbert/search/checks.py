"""Checks of what is searched and of what is asked for."""

from typing import Any

import numpy as np

from jaxbert.arguments import array
from jaxbert.errors import InputError, InputTypeError


def rows_of(vectors: Any, name: str) -> np.ndarray:
    """Vectors [n, d], or one [d] as [1, d], in the dtype that they have.

    Raises InputTypeError for what is no array of numbers, InputError for other shapes.
    """
    rows = array(vectors, name)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"{name} has shape {rows.shape}; pass vectors [n, d]")
    return rows


def floats_of(rows: np.ndarray, name: str, first: int = 0) -> np.ndarray:
    """The rows in float32. Raises InputError for a number that is not finite there.

    The first of the rows is row `first` of what is called by that name.
    """
    floats = in_float32(rows)
    finite = np.isfinite(floats).all(axis=1)
    if not finite.all():
        row = first + int(np.argmin(finite))
        raise InputError(
            f"row {row} of {name} holds a number that is not finite in float32; leave it out"
        )
    return floats


def in_float32(rows: np.ndarray) -> np.ndarray:
    """The rows in float32, where numbers beyond its range are infinite."""
    with np.errstate(over="ignore"):
        return rows.astype(np.float32, copy=False)


def bits_of(rows: np.ndarray, name: str) -> np.ndarray:
    """The rows, which must be packed bits. Raises InputTypeError."""
    if rows.dtype != np.uint8:
        raise InputTypeError(f"{name} are {rows.dtype}, and packed bits are uint8; see Bits")
    return rows


def check_widths(queries: int, corpus: int) -> None:
    """Raise InputError unless vectors of both widths can be compared."""
    if queries != corpus:
        raise InputError(
            f"queries of width {queries} and a corpus of width {corpus} cannot be compared; embed "
            "both with one model and one truncate_dim"
        )


def check_scores(scores: np.ndarray, indices: np.ndarray) -> None:
    """Raise InputError for a score that is not finite, and name the row of the corpus."""
    if not np.isfinite(scores).all():
        row = int(indices[~np.isfinite(scores)][0])
        raise InputError(
            f"row {row} of the corpus has a score that is not finite in float32: it holds NaN, "
            "infinity or numbers of 1e19 and more; leave it out, or scale the vectors down"
        )
