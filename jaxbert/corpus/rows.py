"""The rows of files, of any kind and number, one after another."""

import gzip
import io
import json
import os
import stat
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO

from jaxbert import streams
from jaxbert.corpus import fields, tables
from jaxbert.corpus.fields import BadRow, Fault, FileError, Reading, Row, RowError
from jaxbert.errors import InputError, InputTypeError

__all__ = ["BadRow", "Reading", "Row", "Source"]

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
# Names that promise something else than lines; every other name is taken for text.
NOT_TEXT = (".json", ".tsv", ".npy", ".arrow", ".feather", ".zip", ".bz2", ".xz", ".zst", ".gz")

Found = Iterator[Row | Fault]


# --- lines -------------------------------------------------------------------------------------


class Gunzip(io.RawIOBase):
    """A gzip file's content, so that all that can be unpacked comes before an error."""

    def __init__(self, stream: BinaryIO) -> None:
        """Of an open file, which may have several members."""
        self.content = gzip.GzipFile(fileobj=stream)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes; read1 gives what there is, where read would lose it to a later error."""
        try:
            chunk = self.content.read1(len(buffer))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"is a damaged gzip file ({error})") from error
        buffer[: len(chunk)] = chunk
        return len(chunk)


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """The lines with their newlines, without a byte order mark at the start."""
    line = stream.readline(fields.LONGEST)
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FileError("is UTF-16; convert it to UTF-8")
    if line.startswith(b"\x1f\x8b"):
        raise FileError("is gzip without .gz at the end of its name; rename or unpack it")
    line = line.removeprefix(b"\xef\xbb\xbf")
    while line:
        if len(line) == fields.LONGEST:
            raise FileError(f"has a line of {fields.LONGEST} bytes or more, which is no row")
        yield line
        line = stream.readline(fields.LONGEST)


def without_newline(line: bytes) -> bytes:
    r"""The line without its \n or \r\n."""
    if line.endswith(b"\n"):
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]
    return line


def text_rows(lines: Iterator[bytes], reading: Reading) -> Found:
    """A row per line, empty lines included."""
    for line in lines:
        raw = without_newline(line)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            yield Fault(not_utf8(error), raw)
        else:
            yield Row(None, text, (), raw)


def jsonl_rows(lines: Iterator[bytes], reading: Reading) -> Found:
    """A row per line, each a JSON object; a carried field that is not there is None."""
    for line in lines:
        raw = without_newline(line)
        try:
            yield json_row(raw, reading)
        except RowError as error:
            yield Fault(str(error), raw)


def json_row(raw: bytes, reading: Reading) -> Row:
    """The fields of one JSON object."""
    row = json_object(raw)
    if reading.text_field not in row:
        raise RowError(f"has no field {reading.text_field!r}")
    text = fields.text_of(row[reading.text_field], reading.text_field)
    own = fields.id_of(row[reading.id_field], reading.id_field) if reading.id_field in row else None
    carried = tuple(fields.carried_of(row.get(name), name) for name in reading.carry)
    return Row(own, text, carried, raw)


def json_object(raw: bytes) -> dict[str, Any]:
    """The object in one line of JSONL."""
    try:
        value = DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowError(not_utf8(error)) from error
    except json.JSONDecodeError as error:
        raise RowError(f"is no JSON ({error.msg} at character {error.pos})") from error
    except (ValueError, RecursionError) as error:
        raise RowError(f"is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise RowError(f"is no JSON object but {fields.type_name(value)}")
    return value


def finite(number: str) -> float:
    """A JSON number; what is none, and what float64 cannot hold, could not be written again."""
    value = float(number)
    if value - value != 0:
        raise ValueError(f"{number} is no finite number")
    return value


DECODER = json.JSONDecoder(parse_float=finite, parse_constant=finite)


def not_utf8(error: UnicodeDecodeError) -> str:
    """What a line is that cannot be decoded."""
    return f"is not UTF-8 ({error.reason} at byte {error.start})"


# --- files -------------------------------------------------------------------------------------


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

    def rows(self) -> Iterator[Row | BadRow]:
        """Every row of every file, bad ones included."""
        before = 0
        for file in self.files:
            yield from self._rows_of(file, before)
            before += file.bytes or 0

    def _rows_of(self, file: File, before: int) -> Iterator[Row | BadRow]:
        """The rows of one file, which know where they are."""
        number = 0
        try:
            with self._opened(file) as stream:
                found, position = self._found(file, stream)
                self._position = lambda: before + position()
                try:
                    for number, row in enumerate(found, start=1):
                        if isinstance(row, Row):
                            yield row
                        else:
                            yield BadRow(f"{file.name}, row {number}", *row)
                finally:
                    reached = before + position()
                    self._position = lambda: reached
        except FileError as error:
            after = f", after row {number}" if number else ""
            which = "stdin" if file.path == "-" else file.path
            raise InputError(f"{which} {error}{after}") from error

    def _opened(self, file: File) -> AbstractContextManager[BinaryIO]:
        """The file's bytes, gzip or not."""
        if file.path != "-":
            return open(file.path, "rb", buffering=2**16)
        if not self._stdin_is_new:
            raise InputError("stdin was read before; it can be read once")
        self._stdin_is_new = False
        return nullcontext(streams.stdin())

    def _found(self, file: File, stream: BinaryIO) -> tuple[Found, Callable[[], float]]:
        """The rows in an open file, and how to ask how many of its bytes were read."""
        size = file.bytes
        if file.kind == "parquet":
            table = tables.ParquetRows(stream, self.reading)
            return iter(table), lambda: table.fraction() * (size or 0)
        if file.zipped and size == 0:
            raise FileError("is empty; a gzip file has a header")
        read = {"text": text_rows, "jsonl": jsonl_rows, "csv": tables.csv_rows}[file.kind]
        content = io.BufferedReader(Gunzip(stream), 2**16) if file.zipped else stream
        return read(lines_of(content), self.reading), stream.tell if size is not None else unknown
