"""A part with its vectors -> the columns that are written."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.corpus.bad_rows import BadRows
from jaxbert.corpus.columns import Columns
from jaxbert.corpus.formats import Format
from jaxbert.corpus.part import Part
from jaxbert.corpus.sifting import RowRefusedError, sifted
from jaxbert.errors import InputError, JaxbertError
from jaxbert.inference.outputs import Finish


def as_stored(vectors: np.ndarray, precision: str) -> np.ndarray:
    """The vectors in the file's numbers: half precision is float32 until here."""
    return vectors.astype(np.float16) if precision == "float16" else vectors


@dataclass(frozen=True)
class Output:
    """How the parts of a run are written; a row that cannot be written is told to bad_rows."""

    format: Format
    finish: Finish
    precision: str  # in the file
    carry: tuple[str, ...]
    bad_rows: BadRows
    metadata: Mapping[str, Any]  # of the run, without what is known at the end of the input

    @property
    def with_text(self) -> bool:
        """Whether the texts are written."""
        return bool(self.metadata["with_text"])

    def write(self, file: Path, columns: Columns) -> None:
        """Write one part at this path."""
        self.format.write(file, columns, self.metadata)

    def columns(self, part: Part) -> Columns:
        """The rows that are kept, with their vectors as they stand in the file."""
        for place in part.kept:
            self.check_carried(part, place)
        return part.columns(self.carry, self.fitting(part, self.finished(part)))

    def check_carried(self, part: Part, place: int) -> None:
        """Refuse a row with values that the file cannot hold."""
        values = dict(zip(self.carry, part.rows[place].carried, strict=True))
        try:
            self.format.check_values(values, self.metadata)
        except InputError as error:
            refusal = RowRefusedError(f"cannot be written: {error}")
            self.bad_rows.refused(part, place, refusal)

    def finished(self, part: Part) -> np.ndarray:
        """The vectors of the rows that are kept, after `finish`; it may refuse some rows."""
        kept = part.kept
        found = sifted(lambda some: self.finish(part.vectors[list(some)]), kept)
        for place, one in zip(kept, found, strict=True):
            if isinstance(one, JaxbertError):
                self.bad_rows.refused(part, place, one)
        good = [one for one in found if not isinstance(one, JaxbertError)]
        return np.stack(good) if good else self.finish(part.vectors[:0])

    def fitting(self, part: Part, vectors: np.ndarray) -> np.ndarray:
        """The vectors in the file's numbers; a row with larger numbers is refused."""
        with np.errstate(over="ignore"):
            vectors = as_stored(vectors, self.precision)
        if vectors.dtype.kind != "f":
            return vectors
        fit = np.isfinite(vectors).all(axis=1)
        for place, fits in zip(part.kept, fit, strict=True):
            if not fits:
                large = "has a vector with numbers too large for"
                self.bad_rows.refused(part, place, RowRefusedError(f"{large} {vectors.dtype}"))
        return np.asarray(vectors[fit])
