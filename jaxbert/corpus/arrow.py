"""Values of Arrow that are carried: Python's where it has them without loss, else cells.

A cell keeps its Arrow array, so that Parquet gets what Parquet had, and says the value in what JSON
knows: times as ISO 8601 with all their digits, decimals, UUIDs and durations as text.
"""

import importlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from jaxbert.corpus.fields import Cell, RowError
from jaxbert.errors import InputError

SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
START = datetime(1970, 1, 1)


def pyarrow(module: str = "pyarrow") -> Any:
    """The module, which is imported only where a file needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = 'Parquet needs pyarrow; install it with: pip install "jaxbert[parquet]"'
        raise InputError(problem) from error


def values(column: Any, name: str) -> Iterator[Any]:
    """The values of an Arrow array in order; a RowError where one cannot be read."""
    kind, types = column.type, pyarrow().types
    alike = (types.is_integer, types.is_float32, types.is_float64, types.is_boolean, types.is_null)
    if any(is_one(kind) for is_one in alike):
        yield from column.to_pylist()
        return
    for i, scalar in enumerate(column):
        try:
            yield Cell(column, i, plain(scalar))
        except UnicodeDecodeError:
            yield RowError(f"holds no valid Unicode in {name!r}")
        except (ValueError, OverflowError, ArithmeticError) as error:
            yield RowError(f"holds a value in {name!r} that cannot be read ({error})")


def together(cells: Sequence[Cell]) -> Any:
    """One Arrow array of the values of cells, which are of one type."""
    pa = pyarrow()
    pieces = [
        column.take(pa.array([cell.index for cell in some], pa.int64()))
        for column, some in (
            (some[0].column, some)
            for _, group in itertools.groupby(cells, key=lambda cell: id(cell.column))
            for some in [list(group)]
        )
    ]
    return pa.chunked_array(pieces).unify_dictionaries().combine_chunks()


def plain(scalar: Any) -> Any:
    """A pyarrow.Scalar as what JSON knows, and bytes; no digit is lost."""
    pa = pyarrow()
    if not scalar.is_valid:
        return None
    kind = scalar.type
    if isinstance(kind, pa.BaseExtensionType):
        own = scalar.as_py() if kind.extension_name == "arrow.uuid" else None
        return str(own) if isinstance(own, UUID) else plain(scalar.value)
    types = pa.types
    if types.is_dictionary(kind):
        return plain(scalar.value)
    if types.is_struct(kind):
        return {name: plain(value) for name, value in scalar.items()}
    if types.is_map(kind):
        return [[plain(pair["key"]), plain(pair["value"])] for pair in scalar.values]
    if types.is_nested(kind):
        return [plain(value) for value in scalar.values]
    if types.is_timestamp(kind):
        return moment(scalar)
    if types.is_duration(kind):
        return duration(Decimal(scalar.value) / SECOND[kind.unit])
    if types.is_temporal(kind) and not types.is_interval(kind):
        return str(scalar.cast(pa.string()).as_py())
    value = scalar.as_py()
    if isinstance(value, Decimal):
        return str(value)
    return value if isinstance(value, str | bytes | bool | int | float) else str(value)


def moment(scalar: Any) -> str:
    """A point in time as ISO 8601; its zone is written as the offset that it has then."""
    pa = pyarrow()
    unit, zone = scalar.type.unit, scalar.type.tz
    micros, rest = divmod(scalar.value * (10**9 // SECOND[unit]), 1000)
    try:
        time = START + timedelta(microseconds=micros)
        if zone is not None:
            time = time.replace(tzinfo=UTC).astimezone(pa.lib.string_to_tzinfo(zone))
    except (OverflowError, ValueError, KeyError):  # beyond Python's years, or an unknown zone
        return str(scalar.cast(pa.string()).as_py()).replace(" ", "T", 1)
    if not rest:
        return time.isoformat()
    day = time.replace(tzinfo=None)
    offset = time.isoformat()[len(day.isoformat()) :]
    return f"{day.isoformat(timespec='microseconds')}{rest:03}{offset}"


def duration(seconds: Decimal) -> str:
    """A duration as ISO 8601."""
    return f"{'-' if seconds < 0 else ''}PT{abs(seconds):f}S"
