"""What one row of a corpus is, and what makes a row or a whole file unusable."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jaxbert.errors import InputError

KINDS = ("text", "jsonl", "csv", "parquet")

# Bytes of a row. Beyond it a file is taken for something else than rows, so that memory is bounded.
LONGEST = 2**28


@dataclass(frozen=True)
class Reading:
    """How rows are read: the kind of file (None: by its name) and the names of its fields.

    carry names fields that go along unchanged. A file of kind text has a text per line, no fields.
    """

    kind: str | None = None
    text_field: str = "text"
    id_field: str = "id"
    carry: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a kind that is not known."""
        if self.kind is not None and self.kind not in KINDS:
            raise InputError(f"kind is {self.kind!r}; choose one of {', '.join(KINDS)}")


class Row(NamedTuple):
    """A text with what belongs to it; id is None where the row has none.

    raw tells this row from another: the line without its newline (text, JSONL), or id, text and
    carried in canonical JSON (CSV, Parquet), which is the same exactly where these are.
    """

    id: str | int | None
    text: str
    carried: tuple[Any, ...]
    raw: bytes


class BadRow(NamedTuple):
    """A row without a usable text: "notes.jsonl, row 7", "has no field 'text'".

    f"{where} {reason}" is a sentence. Rows of a file are counted from 1, as editors count lines;
    the header of a CSV file is not counted. raw is the line, or what the table holds.
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


def id_of(value: Any, name: str) -> str | int:
    """The value, if it can be an id: a string, or a whole number of 64 bits."""
    if isinstance(value, str):
        return unicode_of(value, name)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    shown = value if type(value) is int else type_name(value)
    raise RowError(f"holds {shown} in {name!r}; an id is a string or a whole number of 64 bits")


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
    return "null" if value is None else type(value).__name__


def canonical(values: Sequence[Any]) -> bytes:
    """JSON that is the same exactly where the values are, lone surrogates included."""
    return ENCODER.encode(values).encode("ascii")


def spelled(value: Any) -> dict[str, str]:
    """What JSON lacks (bytes, dates, decimals), under its type's name."""
    return {type_name(value): value.hex() if isinstance(value, bytes) else str(value)}


ENCODER = json.JSONEncoder(separators=(",", ":"), sort_keys=True, default=spelled)
