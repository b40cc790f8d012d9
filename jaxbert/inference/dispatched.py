"""A batch that has been sent to the device, and which of its results can be right."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.errors import ComputationError
from jaxbert.inference.programs import on_host

# How far from 1 the length of a vector may be after a Normalize module: rounding makes at most 1e-6
# of difference, a zero vector, which has no direction, makes 1.
UNIT = 1e-3


def right_rows(rows: np.ndarray, unit: bool) -> np.ndarray:
    """Which rows [m] of results [m, ...] are finite, and with `unit` of length one."""
    right = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
    if unit:
        right &= np.abs(np.linalg.norm(rows, axis=1) - 1.0) < UNIT
    return right


def wrong_row(text: int, row: np.ndarray) -> ComputationError:
    """The error that says what is wrong with the result of a text."""
    if not np.isfinite(row).all():
        return ComputationError(f"text {text}", text)
    fault = f"has the length {np.linalg.norm(row):.3g} behind a Normalize module, not 1"
    return ComputationError(f"text {text}", text, fault)


@dataclass(frozen=True)
class Dispatched:
    """The result of a batch of m texts, which the device may still compute."""

    texts: int
    result: Any
    unit: bool  # its rows are of length one

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(results [m, ...] of the texts, which of them [m] are right), once they are there."""
        rows = on_host(self.result)[: self.texts]
        return rows, right_rows(rows, self.unit)
