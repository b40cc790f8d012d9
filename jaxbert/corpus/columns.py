"""What a part of a run holds, before it is a file of some format."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any, Self

import numpy as np

from jaxbert.corpus.fields import Cell
from jaxbert.errors import InputError

DTYPES = ("float32", "float16", "int8", "uint8")
ID_TYPES = ("int64", "string")


@dataclass(frozen=True)
class Columns:
    """The rows of a part, column by column; checked when made."""

    ids: list[str | int]
    texts: list[str]
    carried: dict[str, list[Any]]
    vectors: np.ndarray  # [n, w] float32, float16, int8 or uint8

    def __post_init__(self) -> None:
        """Refuse columns of different lengths, other dtypes, and what is not finite."""
        if self.vectors.ndim != 2 or str(self.vectors.dtype) not in DTYPES:
            raise InputError(
                f"vectors are {self.vectors.dtype} {list(self.vectors.shape)}; they must be [n, w] "
                f"of one of: {', '.join(DTYPES)}"
            )
        named: dict[str, Sequence[Any]] = {"id": self.ids, "text": self.texts, **self.carried}
        for name, column in named.items():
            if len(column) != len(self.vectors):
                raise InputError(
                    f"the column {name!r} has {len(column)} rows beside {len(self.vectors)} "
                    "vectors; pass one value a row"
                )
        if self.vectors.dtype.kind == "f" and not np.isfinite(self.vectors).all():
            raise InputError(
                f"vectors hold NaN or numbers too large for {self.vectors.dtype}; choose float32"
            )


@dataclass(frozen=True)
class Layout:
    """The columns of a run, the same for all its parts; part of the metadata of its output.

    metadata: "vectors": {"dtype": "float32", "width": 384}, "id_type": "int64" or "string",
    "with_text": bool, "carried": [{"name": "title", "type": "text"}, ...] in the order of the
    columns. A type is "text", or Arrow's name of the type that the column had in Parquet.
    id_type is known when all rows are read: parts hold ids of both types as they came.
    """

    dtype: str
    width: int
    id_type: str
    with_text: bool
    carried: dict[str, str]

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Self:
        """What the metadata says; only the vectors must be there."""
        vectors, id_type = metadata["vectors"], metadata.get("id_type", "int64")
        if vectors["dtype"] not in DTYPES or id_type not in ID_TYPES:
            raise InputError(
                f"vectors of {vectors['dtype']} beside ids of {id_type} cannot be written; choose "
                f"from {', '.join(DTYPES)} and {', '.join(ID_TYPES)}"
            )
        carried = {column["name"]: column["type"] for column in metadata.get("carried", ())}
        with_text = bool(metadata.get("with_text", False))
        return cls(vectors["dtype"], vectors["width"], id_type, with_text, carried)

    def fit(self, columns: Columns) -> None:
        """Refuse a part that is not of this run."""
        theirs = (str(columns.vectors.dtype), columns.vectors.shape[1], list(columns.carried))
        if theirs != (self.dtype, self.width, list(self.carried)):
            raise InputError(
                f"a part has (dtype, width, columns) {theirs}, and the run "
                f"{(self.dtype, self.width, list(self.carried))}; make both with the same settings"
            )


def check_names(carry: tuple[str, ...], with_text: bool) -> None:
    """Refuse two columns of one name."""
    names = ["id", *(["text"] if with_text else []), *carry, "embedding"]
    for name in carry:
        if names.count(name) > 1:
            raise InputError(
                f"the output would have two columns {name!r}; carry each column once, and none of "
                "the names id, embedding and (with the text) text"
            )


def as_json(value: Any, where: str) -> str:
    """A value as one line of JSON; where names it in an error.

    Dates are ISO 8601, decimals are text, NaN is null: JSON has none of them. InputError for other
    things that JSON does not have, such as bytes and infinity.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=simple)
    except ValueError:
        text = json.dumps(without_nan(value, where), ensure_ascii=False, default=simple)
    except TypeError as error:
        raise InputError(f"{where} cannot be JSON ({error}); leave it out") from error
    return text if is_unicode(text) else json.dumps(json.loads(text))


def simple(value: Any) -> Any:
    """A value that JSON does not know as text."""
    if isinstance(value, Cell):
        return value.value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"it holds a {type(value).__name__}")


def without_nan(value: Any, where: str) -> Any:
    """The same value with None for NaN; InputError for infinity."""
    if isinstance(value, Cell):
        value = value.value
    if isinstance(value, dict):
        return {key: without_nan(one, where) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one, where) for one in value]
    if isinstance(value, float) and math.isinf(value):
        raise InputError(f"{where} cannot be JSON (it holds an infinity); leave it out")
    return None if isinstance(value, float) and math.isnan(value) else value


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON's escapes can make half a character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
