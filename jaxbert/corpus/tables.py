"""Rows of CSV and Parquet files, whose columns have names."""

import csv
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from jaxbert.corpus.fields import (
    LONGEST,
    Fault,
    FileError,
    Reading,
    Row,
    RowError,
    canonical,
    carried_of,
    id_of,
    text_of,
    unicode_of,
)
from jaxbert.errors import InputError

# Rows of Parquet in memory at once: few, because a text may be a whole book.
BATCH = 256


class Columns:
    """Where id (None: nowhere), text and carried fields stand among the names of a table."""

    def __init__(self, names: Sequence[str], reading: Reading) -> None:
        """FileError if a field is missing, or there twice; only the default id may be missing."""
        self.reading = reading
        self.text = place(names, reading.text_field)
        self.carry = [place(names, name) for name in reading.carry]
        without = reading.id_field not in names and reading.id_field == Reading.id_field
        self.id = None if without else place(names, reading.id_field)

    def row(self, values: Sequence[Any]) -> Row:
        """The values of a line as a Row; RowError if they make none."""
        carried = tuple(
            carried_of(values[i], name)
            for i, name in zip(self.carry, self.reading.carry, strict=True)
        )
        text = text_of(values[self.text], self.reading.text_field)
        own = None if self.id is None else id_of(values[self.id], self.reading.id_field)
        return Row(own, text, carried, canonical((own, text, carried)))


def place(names: Sequence[str], name: str) -> int:
    """The index of the one column of this name."""
    if names.count(name) > 1:
        raise FileError(
            f"has {names.count(name)} columns {name!r}, which one is meant is not clear"
        )
    if name not in names:
        known = ", ".join(map(repr, names[:20])) + (" ..." if len(names) > 20 else "")
        raise FileError(f"has no column {name!r}, but {known or 'none at all'}")
    return names.index(name)


# --- CSV ---------------------------------------------------------------------------------------


class Feed:
    """Lines for the csv module, which takes several for a row with quoted newlines."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        """taken: the lines of the present row; ended: whether another was asked for in vain."""
        self.lines = lines
        self.taken: list[bytes] = []
        self.size = 0
        self.ended = False

    def __iter__(self) -> "Feed":
        """Itself."""
        return self

    def __next__(self) -> str:
        """The next line; what is no UTF-8 becomes lone surrogates, which no field may hold."""
        for line in self.lines:
            self.taken.append(line)
            self.size += len(line)
            if self.size > LONGEST:
                raise FileError(f"has a row of more than {LONGEST} bytes, perhaps by an open quote")
            return line.decode("utf-8", "surrogateescape")
        self.ended = True
        raise StopIteration

    def begin(self) -> None:
        """A row begins."""
        self.taken.clear()
        self.size = 0


def csv_rows(lines: Iterator[bytes], reading: Reading) -> Iterator[Row | Fault]:
    """The rows of a CSV file as the csv module's dialect excel reads it; the header comes first.

    A row with fewer or more cells than the header is a Fault: a comma without quotes would cut a
    text in two. A quote that is never closed takes in all rows after it, hence a FileError.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    feed = Feed(lines)
    reader = csv.reader(feed)
    header = cells_of(reader, feed)
    if header is None:
        raise FileError("is empty; a CSV file begins with a header")
    columns = Columns(header, reading)
    while True:
        try:
            cells = cells_of(reader, feed)
            if cells is None:
                return
            yield csv_row(cells, header, columns)
        except RowError as error:
            yield Fault(str(error), b"".join(feed.taken).rstrip(b"\r\n"))


def cells_of(reader: Iterator[list[str]], feed: Feed) -> list[str] | None:
    """The cells of the next row; None at the end."""
    feed.begin()
    try:
        cells = next(reader, None)
    except csv.Error as error:
        raise RowError(f"is no CSV ({error})") from error
    if cells is not None and feed.ended:
        raise FileError("opens a quote that is never closed")
    return cells


def csv_row(cells: list[str], header: list[str], columns: Columns) -> Row:
    """The cells as a Row."""
    if len(cells) != len(header):
        raise RowError(f"has {len(cells)} fields where the header has {len(header)}")
    for cell, name in zip(cells, header, strict=True):
        unicode_of(cell, name)
    return columns.row(cells)


# --- Parquet -----------------------------------------------------------------------------------


def pyarrow(module: str = "pyarrow") -> Any:
    """The module, which is imported only where a file needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        problem = 'Parquet needs pyarrow; install it with: pip install "jaxbert[parquet]"'
        raise InputError(problem) from error


class ParquetRows:
    """The rows of a Parquet file, a batch in memory at a time."""

    def __init__(self, file: BinaryIO, reading: Reading) -> None:
        """FileError if the file is damaged or its columns cannot be what reading says."""
        self.arrow = pyarrow()
        self.damage = (self.arrow.ArrowException, OSError)
        try:
            # With these two, pages are read one after another, not whole row groups.
            options = {"buffer_size": 2**20, "pre_buffer": False}
            self.file = pyarrow("pyarrow.parquet").ParquetFile(file, **options)
        except self.damage as error:
            raise FileError(f"cannot be read as Parquet ({one_line(error)})") from error
        self.seen = 0
        self.wanted = self.checked(reading)
        self.columns = Columns(self.wanted, reading)

    def checked(self, reading: Reading) -> list[str]:
        """The names of the columns to be read; FileError if one is not what it must be."""
        found = Columns(self.file.schema_arrow.names, reading)
        self.require(reading.text_field, "text", self.is_text)
        wanted = [reading.text_field, *reading.carry]
        if found.id is not None:
            integer = self.arrow.types.is_integer
            self.require(reading.id_field, "ids", lambda kind: self.is_text(kind) or integer(kind))
            wanted.append(reading.id_field)
        return list(dict.fromkeys(wanted))

    def require(self, name: str, use: str, fits: Callable[[Any], bool]) -> None:
        """FileError unless the column has a fitting type, or only nulls."""
        kind = self.file.schema_arrow.field(name).type
        if self.arrow.types.is_dictionary(kind):
            kind = kind.value_type
        if not (fits(kind) or self.arrow.types.is_null(kind)):
            raise FileError(f"has {kind} in the column {name!r}, which cannot be used for {use}")

    def is_text(self, kind: Any) -> bool:
        """Whether a column of this type holds strings."""
        types = self.arrow.types
        return bool(
            types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        )

    def __iter__(self) -> Iterator[Row | Fault]:
        """The rows in the order of the file."""
        try:
            for batch in self.file.iter_batches(batch_size=BATCH, columns=self.wanted):
                columns = [self.values(batch.column(name), name) for name in self.wanted]
                for values in zip(*columns, strict=True):
                    self.seen += 1
                    yield self.row(values)
        except self.damage as error:
            raise FileError(f"is damaged ({one_line(error)})") from error

    def row(self, values: Sequence[Any]) -> Row | Fault:
        """The values of the wanted columns as a row."""
        try:
            return self.columns.row(values)
        except RowError as error:
            return Fault(str(error), canonical(values))

    def values(self, column: Any, name: str) -> list[Any]:
        """An Arrow array as Python objects; a string that is no UTF-8 gets lone surrogates."""
        arrow = self.arrow
        try:
            if arrow.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if self.is_text(column.type):
                return strings(column, arrow.large_binary())
            return column.cast(microseconds(column.type, arrow)).to_pylist()
        except (arrow.ArrowException, ValueError, OverflowError) as error:
            problem = f"has values in the column {name!r} that cannot be carried"
            raise FileError(f"{problem} ({one_line(error)})") from error

    def fraction(self) -> float:
        """How much of the file has been given out."""
        rows = self.file.metadata.num_rows
        return self.seen / rows if rows else 1.0


def strings(column: Any, binary: Any) -> list[str | None]:
    """An Arrow array of strings, of which Parquet does not say that they are valid."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        values = column.cast(binary).to_pylist()
        return [None if v is None else v.decode("utf-8", "surrogateescape") for v in values]


def microseconds(kind: Any, arrow: Any) -> Any:
    """The type, without nanoseconds: Python's times have none, and pandas' are not always there."""
    if getattr(kind, "unit", None) != "ns":
        return kind
    if arrow.types.is_timestamp(kind):
        return arrow.timestamp("us", kind.tz)
    return arrow.time64("us") if arrow.types.is_time64(kind) else arrow.duration("us")


def one_line(error: BaseException) -> str:
    """The error's words without line breaks."""
    return " ".join(str(error).split()).rstrip(".")
