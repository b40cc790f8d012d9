"""Rows of CSV and Parquet files, whose columns have names."""

import csv
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Self

from jaxbert.corpus import arrow, fields
from jaxbert.corpus.arrow import pyarrow as pyarrow
from jaxbert.corpus.fields import (
    Fault,
    FileError,
    Reading,
    Row,
    RowError,
    canonical,
    carried_of,
    id_of,
    text_of,
)
from jaxbert.corpus.lines import Lines
from jaxbert.corpus.pages import rows_together
from jaxbert.errors import shown

# Rows of Parquet in memory at once, and about how many bytes.
BATCH, SPACE = 32, 2**25


class FieldColumns:
    """Where id (None: nowhere), text and carried fields stand among the names of a table."""

    def __init__(self, names: Sequence[str], reading: Reading) -> None:
        """FileError if a field is missing, or there twice; ids only if they were asked for."""
        self.reading = reading
        self.text = column_index(names, reading.text_field)
        self.carry = [column_index(names, name) for name in reading.carry]
        self.id: int | None = None
        if reading.id_field or (reading.id_field is None and names.count(reading.id_name) == 1):
            self.id = column_index(names, reading.id_name)

    def row(self, values: Sequence[Any]) -> Row:
        """The values of a line as a Row; RowError if they make none."""
        carried = tuple(
            carried_of(values[i], name)
            for i, name in zip(self.carry, self.reading.carry, strict=True)
        )
        text = text_of(values[self.text], self.reading.text_field)
        own = None if self.id is None else id_of(values[self.id], self.reading)
        return Row(own, text, carried, canonical((own, text, carried)))


def column_index(names: Sequence[str], name: str) -> int:
    """The index of the one column of this name."""
    if names.count(name) > 1:
        raise FileError(
            f"has {names.count(name)} columns {shown(name)}, which one is meant is not clear"
        )
    if name not in names:
        known = ", ".join(map(shown, names[:20])) + (" ..." if len(names) > 20 else "")
        raise FileError(f"has no column {shown(name)}, but {known or 'none at all'}")
    return names.index(name)


# --- CSV ---------------------------------------------------------------------------------------


class Feed:
    """Lines for the csv module, which takes several for a row with quoted newlines."""

    def __init__(self, lines: Lines) -> None:
        """taken: the lines of the present row; ended: whether another was asked for in vain."""
        self.lines = lines
        self.taken: list[bytes] = []
        self.size = 0
        self.ended = False

    def __iter__(self) -> Self:
        """The same object, as of every iterator."""
        return self

    def __next__(self) -> str:
        """The next line; what is no UTF-8 becomes lone surrogates, which no field may hold."""
        for line in self.lines:
            if isinstance(line, Fault):
                raise FileError(f"has a line that is too long: it {line.reason}")
            self.taken.append(line)
            self.size += len(line)
            if self.size > fields.LONGEST:
                raise FileError(
                    f"has a row of more than {fields.LONGEST} bytes, perhaps by an open quote"
                )
            return line.decode("utf-8", "surrogateescape")
        self.ended = True
        raise StopIteration

    def begin(self) -> None:
        """Forget the lines of the row before."""
        self.taken.clear()
        self.size = 0

    def end(self) -> None:
        """Note in which line the row began."""
        self.lines.begun = self.lines.number + 1 - len(self.taken)

    @property
    def blank(self) -> bool:
        """Whether the row is a line of white space."""
        return len(self.taken) == 1 and not self.taken[0].strip()


class CsvRows:
    """The rows of a CSV file as the csv module's dialect excel reads it; the header comes first.

    A line of white space is no row. A row with fewer or more cells than the header is a Fault: a
    comma without quotes would cut a text in two. A quote that is never closed takes in all rows
    after it, hence a FileError. Only the cells that are used must be valid.
    """

    def __init__(self, lines: Lines, reading: Reading) -> None:
        """Read the header; FileError if it is not one, or lacks a column."""
        csv.field_size_limit(max(csv.field_size_limit(), fields.LONGEST))
        self.feed = Feed(lines)
        self.reader = csv.reader(self.feed)
        try:
            header = self.cells()
        except RowError as error:
            raise FileError(f"has a header that {error}") from error
        if header is None:
            raise FileError("is empty; a CSV file begins with a header")
        self.width = len(header)
        self.columns = FieldColumns(header, reading)

    def __iter__(self) -> Iterator[Row | Fault]:
        """The rows behind the header."""
        while True:
            try:
                cells = self.cells()
                if cells is None:
                    return
                if len(cells) != self.width:
                    raise RowError(f"has {len(cells)} fields where the header has {self.width}")
                yield self.columns.row(cells)
            except RowError as error:
                yield Fault(str(error), b"".join(self.feed.taken).rstrip(b"\r\n"))

    def cells(self) -> list[str] | None:
        """The cells of the next row; None at the end."""
        while True:
            self.feed.begin()
            try:
                cells = next(self.reader, None)
            except csv.Error as error:
                raise RowError(f"is no CSV ({error})") from error
            finally:
                self.feed.end()
            if cells is not None and self.feed.ended:
                raise FileError("opens a quote that is never closed")
            if cells is None or not self.feed.blank:
                return cells


def csv_rows(lines: Lines, reading: Reading) -> Iterator[Row | Fault]:
    """The rows of a CSV file."""
    return iter(CsvRows(lines, reading))


# --- Parquet -----------------------------------------------------------------------------------


class ParquetRows:
    """The rows of a Parquet file, a batch in memory at a time.

    pyarrow unpacks a page at a time, whatever its size, and a dictionary as a whole.
    """

    def __init__(self, file: BinaryIO, reading: Reading) -> None:
        """FileError if the file is damaged or its columns cannot be what reading says."""
        self.arrow, self.stream = pyarrow(), file
        self.damage = (self.arrow.ArrowException, OSError)
        # With these two, pages are read one after another, not whole row groups.
        options = {"buffer_size": 2**20, "pre_buffer": False}
        try:
            self.file = pyarrow("pyarrow.parquet").ParquetFile(file, **options)
            self.schema = self.file.schema_arrow
        except self.damage as error:
            raise FileError(f"cannot be read as Parquet ({one_line(error)})") from error
        self.seen = 0
        self.wanted = self.checked(reading)
        self.columns = FieldColumns(self.wanted, reading)

    def checked(self, reading: Reading) -> list[str]:
        """The names of the columns to be read; FileError if one is not what it must be."""
        found = FieldColumns(self.schema.names, reading)
        self.require(reading.text_field, "text", self.is_text)
        wanted = [reading.text_field, *reading.carry]
        if reading.id_field:
            self.require(reading.id_name, "ids", self.is_id)
        if found.id is not None and self.fits(reading.id_name, self.is_id):
            wanted.append(reading.id_name)
        return list(dict.fromkeys(wanted))

    def fits(self, name: str, wanted: Callable[[Any], bool]) -> bool:
        """Whether the column has a fitting type, or only nulls."""
        kind = self.schema.field(name).type
        if self.arrow.types.is_dictionary(kind):
            kind = kind.value_type
        return wanted(kind) or self.arrow.types.is_null(kind)

    def require(self, name: str, use: str, wanted: Callable[[Any], bool]) -> None:
        """FileError unless the column fits."""
        if not self.fits(name, wanted):
            kind = self.schema.field(name).type
            raise FileError(f"has {kind} in the column {name!r}, which cannot be used for {use}")

    def is_id(self, kind: Any) -> bool:
        """Whether a column of this type holds ids."""
        uuid = getattr(kind, "extension_name", None) == "arrow.uuid"
        return uuid or self.is_text(kind) or bool(self.arrow.types.is_integer(kind))

    def is_text(self, kind: Any) -> bool:
        """Whether a column of this type holds strings."""
        types = self.arrow.types
        return bool(
            types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        )

    def __iter__(self) -> Iterator[Row | Fault]:
        """The rows in the order of the file."""
        try:
            for group in range(self.file.metadata.num_row_groups):
                about = self.file.metadata.row_group(group)
                size = rows_together(self.stream, about, self.wanted, BATCH, SPACE)
                for batch in self.file.iter_batches(size, [group], self.wanted):
                    columns = [self.values(batch.column(name), name) for name in self.wanted]
                    for _ in range(batch.num_rows):
                        self.seen += 1
                        yield self.row(columns)
        except self.damage as error:
            raise FileError(f"is damaged ({one_line(error)})") from error

    def row(self, columns: Sequence[Iterator[Any]]) -> Row | Fault:
        """The next values of the wanted columns as a row."""
        values = [next(column) for column in columns]
        try:
            for value in values:
                if isinstance(value, RowError):
                    raise value
            return self.columns.row(values)
        except RowError as error:
            return Fault(str(error), canonical(values))

    def values(self, column: Any, name: str) -> Iterator[Any]:
        """The values of an Arrow array, one at a time; a RowError where there is none."""
        kind = self.schema.field(name).type
        if self.is_text(kind) or name == self.columns.reading.text_field:
            return (text_in(scalar, name) for scalar in column)
        return arrow.values(column, name)

    def fraction(self) -> float:
        """How much of the file has been given out."""
        rows = self.file.metadata.num_rows
        return self.seen / rows if rows else 1.0


def text_in(scalar: Any, name: str) -> str | RowError | None:
    """A string of Arrow, perhaps of a dictionary; what is no UTF-8 gets lone surrogates."""
    scalar = getattr(scalar, "value", scalar)
    if scalar is None or not scalar.is_valid:
        return None
    held = scalar.as_buffer()
    if held.size > fields.LONGEST:
        return RowError(f"has {held.size} bytes in {name!r}, and a row may have {fields.LONGEST}")
    try:
        return str(scalar.as_py())
    except UnicodeDecodeError:
        return held.to_pybytes().decode("utf-8", "surrogateescape")


def one_line(error: BaseException) -> str:
    """The error's words without line breaks."""
    return " ".join(str(error).split()).rstrip(".")
