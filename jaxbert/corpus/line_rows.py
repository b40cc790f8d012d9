"""Rows that are lines: a text, or a JSON object."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from jaxbert.corpus import fields
from jaxbert.corpus.fields import Fault, FileError, Reading, Row, RowError
from jaxbert.corpus.lines import Lines, without_newline

Found = Iterator[Row | Fault]


def text_rows(lines: Lines, reading: Reading) -> Found:
    """A row per line, empty lines included."""
    for line in lines:
        if isinstance(line, Fault):
            yield line
            continue
        if lines.number == 1 and b"\r" in line[:-1] and not line.endswith(b"\n"):
            raise FileError(
                "has lines that end in CR alone; convert them, for example with tr '\\r' '\\n'"
            )
        raw = without_newline(line)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Fault(not_utf8(error), raw)
        else:
            yield Row(None, text, (), raw)


def jsonl_rows(lines: Lines, reading: Reading) -> Found:
    """A row per line, each a JSON object; white space alone is no row.

    A carried field that is not there is None. Only the fields that are used must be valid.
    """
    for line in lines:
        if isinstance(line, Fault):
            yield line
            continue
        raw = line.rstrip(b"\r\n")
        if not raw.strip():
            continue
        try:
            yield json_row(raw, reading)
        except RowError as error:
            yield Fault(str(error), raw)


def json_row(raw: bytes, reading: Reading) -> Row:
    """The fields of one JSON object."""
    try:
        return fields_of(raw.decode("utf-8"), raw, reading)
    except UnicodeDecodeError as error:
        try:
            return fields_of(raw.decode("utf-8", "surrogateescape"), raw, reading)
        except RowError:
            raise RowError(not_utf8(error)) from error


def fields_of(line: str, raw: bytes, reading: Reading) -> Row:
    """The fields that are used, and nothing of the others."""
    row = json_object(line)
    if reading.text_field not in row:
        raise RowError(f"has no field {reading.text_field!r}")
    text = fields.text_of(row[reading.text_field], reading.text_field)
    own = fields.id_of(row.get(reading.id_name), reading) if reading.id_name else None
    carried = tuple(finite(fields.carried_of(row.get(name), name), name) for name in reading.carry)
    return Row(own, text, carried, raw)


def json_object(line: str) -> dict[str, Any]:
    """The object in one line of JSONL."""
    try:
        value = DECODER.decode(line)
    except json.JSONDecodeError as error:
        raise RowError(f"is no JSON ({error.msg} at character {error.pos})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise RowError(f"is no JSON object but {fields.type_name(value)}")
    return value


def whole_number(digits: str) -> int | Decimal:
    """A whole number of JSON, of any length: Python refuses thousands of digits."""
    return int(digits) if len(digits) < 4300 else Decimal(digits)


def finite(value: Any, name: str) -> Any:
    """A carried value, if JSON can say it again: NaN, infinities and 1e999 are refused."""
    if isinstance(value, float | list | dict):
        try:
            json.dumps(value, allow_nan=False, default=str)
        except ValueError as error:
            raise RowError(f"holds a number in {name!r} that is not finite") from error
    return value


DECODER = json.JSONDecoder(parse_int=whole_number)


def not_utf8(error: UnicodeDecodeError) -> str:
    """What a line is that cannot be decoded."""
    return f"is not UTF-8 ({error.reason} at byte {error.start})"
