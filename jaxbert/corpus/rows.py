"""The rows of files, of any kind and number, one after another."""

import io
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO

from jaxbert.corpus import tables
from jaxbert.corpus.fields import BadRow, Fault, FileError, Reading, Row
from jaxbert.corpus.line_rows import jsonl_rows, text_rows
from jaxbert.corpus.lines import Gunzip, Lines
from jaxbert.errors import InputError, InputTypeError
from jaxbert.process import streams

__all__ = ["BadRow", "Reading", "Row", "Source"]

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# Names that promise something else than lines; every other name is taken for text.
NOT_TEXT = (".json", ".tsv", ".npy", ".arrow", ".feather", ".zip", ".bz2", ".xz", ".zst", ".gz")

Found = Iterator[Row | Fault]


@dataclass(frozen=True)
class File:
    """One input: how to open it, what to call it, its kind, its bytes (None if it is a stream)."""

    path: str
    name: str
    kind: str
    bytes: int | None

    @property
    def zipped(self) -> bool:
        """Whether it is gzip, by its name."""
        return self.path.lower().endswith(".gz")


def expanded(inputs: Iterable[str], without: Container[str]) -> Iterator[str]:
    """The paths that names and patterns stand for; those of a pattern are sorted, and not all."""
    for given in map(os.fspath, inputs):
        if given == "-" or os.path.exists(given):
            yield given
        elif not has_magic(given):
            raise InputError(f"{given} does not exist")
        else:
            paths = [path for path in glob(given, recursive=True) if not os.path.isdir(path)]
            found = sorted(path for path in paths if path not in without)
            if not found:
                but = " but what runs are writing" if paths else ""
                raise InputError(f"no file matches {given}{but}")
            yield from found


def described(path: str, reading: Reading) -> File:
    """The file of a path; refused if it cannot be read as its kind."""
    if path == "-":
        streams.need_stdin()
        return checked(File("-", "stdin", reading.kind or "text", None), reading)
    state = os.stat(path)
    if stat.S_ISDIR(state.st_mode):
        raise InputError(f"{path} is a folder; name its files, for example {path}/*.jsonl")
    size = state.st_size if stat.S_ISREG(state.st_mode) else None
    name = os.path.basename(path)
    return checked(File(path, name, reading.kind or kind_of(path), size), reading)


def kind_of(path: str) -> str:
    """The kind of file that a name promises."""
    suffix = Path(path.lower().removesuffix(".gz")).suffix
    if suffix in NOT_TEXT:
        raise InputError(
            f"{path} is neither text, JSONL, CSV nor Parquet by its name; say which it is"
        )
    return SUFFIXES.get(suffix, "text")


def checked(file: File, reading: Reading) -> File:
    """The file; what its kind cannot do is refused before any work is done."""
    if file.kind == "text" and reading.carry:
        raise InputError(f"{file.name} is text, which has no field {reading.carry[0]!r} to carry")
    if file.kind == "parquet":
        tables.pyarrow()
        if file.bytes is None or file.zipped:
            raise InputError(f"{file.name} cannot be read as Parquet, which must be a plain file")
    return file


def unknown() -> float:
    """The position where none is known."""
    return 0.0


class Source:
    """The rows of inputs in order: files, patterns, and - for stdin; .gz is gzip by its name.

    A file that cannot be read on raises InputError after the rows before that place. Memory does
    not grow with the inputs: lines are read one by one, Parquet in small batches.
    """

    def __init__(
        self, inputs: Sequence[str], reading: Reading | None = None, without: Container[str] = ()
    ) -> None:
        """InputError for a file that is not there, a pattern that finds none not in `without`."""
        if isinstance(inputs, (str, bytes)):
            raise InputTypeError("inputs is one name; pass a list of names")
        self.reading = reading or Reading()
        self.files = [described(path, self.reading) for path in expanded(inputs, without)]
        if sum(file.path == "-" for file in self.files) > 1:
            raise InputError("stdin is named twice; it can be read once")
        self._stdin_is_new = True
        self._position: Callable[[], float] = unknown

    def names(self) -> list[dict[str, Any]]:
        """The base name of each file, and its bytes (None if not known), in order."""
        return [{"name": file.name, "bytes": file.bytes} for file in self.files]

    def fraction(self) -> float | None:
        """How much of all bytes has been read, in [0, 1]; None where their number is not known.

        For gzip these are the compressed bytes, for Parquet the rows stand for them.
        """
        total = 0
        for file in self.files:
            if file.bytes is None:
                return None
            total += file.bytes
        try:
            return min(self._position() / total, 1.0) if total else 1.0
        except ValueError:  # asked by another thread while a file was being closed
            return None

    def check(self) -> None:
        """Refuse tables whose columns cannot be what reading says; InputError names the file.

        `rows` does the same for each file when its turn comes; streams are not touched here.
        """
        for file in self.files:
            if file.kind in ("csv", "parquet") and file.bytes is not None:
                with read_errors(file), self._opened(file) as stream:
                    if file.kind == "parquet":
                        tables.ParquetRows(stream, self.reading)
                    else:
                        tables.CsvRows(self._lines(file, stream), self.reading)

    def rows(self) -> Iterator[Row | BadRow]:
        """Every row of every file, bad ones included."""
        before = 0
        for file in self.files:
            yield from self._rows_of(file, before)
            before += file.bytes or 0

    def _rows_of(self, file: File, before: int) -> Iterator[Row | BadRow]:
        """The rows of one file, which know where they are."""
        at = Place(file)
        with read_errors(file, at), self._opened(file) as stream:
            found, position = self._found(file, stream, at)
            self._position = lambda: before + position()
            try:
                for row in found:
                    at.number += 1
                    if isinstance(row, Row):
                        yield row._replace(where=str(at))
                    else:
                        yield BadRow(str(at), *row)
            finally:
                reached = before + position()
                self._position = lambda: reached

    def _opened(self, file: File) -> AbstractContextManager[BinaryIO]:
        """The file's bytes, gzip or not."""
        if file.path != "-":
            return open(file.path, "rb", buffering=2**16)
        if not self._stdin_is_new:
            raise InputError("stdin was read before; it can be read once")
        self._stdin_is_new = False
        return nullcontext(streams.stdin())

    def _lines(self, file: File, stream: BinaryIO) -> Lines:
        """The lines in an open file; those of text may hold CR, which elsewhere ends a line."""
        if file.zipped and file.bytes == 0:
            raise FileError("is empty; a gzip file has a header")
        content = io.BufferedReader(Gunzip(stream), 2**16) if file.zipped else stream
        return Lines(content, returns=file.kind != "text")

    def _found(
        self, file: File, stream: BinaryIO, at: "Place"
    ) -> tuple[Found, Callable[[], float]]:
        """The rows in an open file, and how to ask how many of its bytes were read."""
        size = file.bytes
        if file.kind == "parquet":
            table = tables.ParquetRows(stream, self.reading)
            return iter(table), lambda: table.fraction() * (size or 0)
        at.lines = lines = self._lines(file, stream)
        read = {"text": text_rows, "jsonl": jsonl_rows, "csv": tables.csv_rows}[file.kind]
        return read(lines, self.reading), stream.tell if size is not None else unknown


@dataclass
class Place:
    """Where reading is in a file: how many rows have come, and in which line the last began."""

    file: File
    number: int = 0
    lines: Lines | None = None

    def __str__(self) -> str:
        """The place of the last row."""
        line = "" if self.lines is None or self.lines.begun == self.number else self.lines.begun
        return f"{self.file.name}, row {self.number}" + (f" (line {line})" if line else "")


@contextmanager
def read_errors(file: File, at: Place | None = None) -> Iterator[None]:
    """What is wrong with a file becomes an InputError that names it, and the row before."""
    which = "stdin" if file.path == "-" else file.path
    try:
        yield
    except FileError as error:
        raise InputError(f"{which} {error}{after(at)}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{which} cannot be read ({reason}){after(at)}") from error


def after(at: Place | None) -> str:
    """How far reading had come."""
    return f", after row {at.number}" if at is not None and at.number else ""
