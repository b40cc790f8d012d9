"""What one row of a corpus is, and what makes a row or a whole file unusable."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from jaxbert.errors import InputError

KINDS = ("text", "jsonl", "csv", "parquet")

# Bytes of a row, or of a value in a table; what has more is no row, so that memory is bounded.
LONGEST = 2**27


@dataclass(frozen=True)
class Reading:
    """How rows are read: the kind of file (None: by its name) and the names of its fields.

    id_field None takes the field `id` where it can serve, a name demands that it can, "" takes
    none. carry names fields that go along unchanged. A file of kind text has a text per line, no
    fields.
    """

    kind: str | None = None
    text_field: str = "text"
    id_field: str | None = None
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a kind that is not known."""
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}; choose one of {', '.join(KINDS)}")

    @property
    def id_name(self) -> str:
        """The name of the field of ids; "" is none's."""
        return "id" if self.id_field is None else self.id_field


class Row(NamedTuple):
    """A text with what belongs to it; id is None where the row has none.

    raw tells this row from another: the line without its newline (text, JSONL), or id, text and
    carried in canonical JSON (CSV, Parquet), which is the same exactly where these are. where is
    its place, as that of a BadRow.
    """

    id: str | int | None
    text: str
    carried: tuple[Any, ...]
    raw: bytes
    where: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A value of an Arrow array, which stays there, for Python lacks its type.

    value says the same in what JSON knows (and bytes): times as ISO 8601, decimals as text.
    """

    column: Any  # a pyarrow.Array
    index: int
    value: Any

    @property
    def kind(self) -> str:
        """Arrow's name of the type."""
        return str(self.column.type)


class BadRow(NamedTuple):
    """A row without a usable text: "notes.jsonl, row 7", "has no field 'text'".

    f"{where} {reason}" is a sentence. Rows of a file are counted from 1; where the row begins in a
    line of another number, as behind a header or an empty line, that follows: "a.csv, row 7 (line
    9)". raw is the line, or what the table holds.
    """

    where: str
    reason: str
    raw: bytes


class Fault(NamedTuple):
    """A BadRow that does not know yet where it is."""

    reason: str
    raw: bytes


class RowError(ValueError):
    """What is wrong with one row, to follow its place."""


class FileError(ValueError):
    """What is wrong with a whole file, to follow its name."""


def text_of(value: Any, name: str) -> str:
    """The value, if it can be embedded."""
    if not isinstance(value, str):
        raise RowError(f"holds {type_name(value)} in {name!r}, not text")
    return unicode_of(value, name)


def id_of(value: Any, reading: Reading) -> str | int | None:
    """The value as an id; None where the row has none and is known by its place.

    An id is a text that is not empty, or a whole number: an int where it has 64 bits, else its
    digits. A UUID is its text. Other values are no id, or, where ids were asked for by the name of
    their field, their JSON.
    """
    if isinstance(value, Cell):
        value = value.value
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return unicode_of(value, reading.id_name)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, Decimal):  # a whole number of thousands of digits
        return str(value)
    if reading.id_field is None:
        return None
    return unicode_of(json.dumps(value, ensure_ascii=False, default=str), reading.id_name)


def carried_of(value: Any, name: str) -> Any:
    """The value, if all strings in it can be written again."""
    if isinstance(value, str):
        unicode_of(value, name)
    elif isinstance(value, (list, dict)):
        unicode_of(json.dumps(value, ensure_ascii=False, default=str), name)
    return value


def unicode_of(value: str, name: str) -> str:
    """The value, if it is Unicode without lone surrogates."""
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            problem = f"holds no valid Unicode in {name!r} (character {error.start})"
            raise RowError(problem) from error
    return value


def type_name(value: Any) -> str:
    """The type of a value, in the words of JSON where it has none in Python."""
    if isinstance(value, Cell):
        return value.kind
    return "null" if value is None else type(value).__name__


def canonical(values: Sequence[Any]) -> bytes:
    """JSON that is the same exactly where the values are, lone surrogates included."""
    return ENCODER.encode(values).encode("ascii")


def spelled(value: Any) -> dict[str, Any]:
    """What JSON lacks (bytes, decimals, cells of Arrow), under its type's name."""
    if isinstance(value, Cell):
        return {value.kind: value.value}
    return {type_name(value): value.hex() if isinstance(value, bytes) else str(value)}


ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, default=spelled)
