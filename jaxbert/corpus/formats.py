"""How a run's vectors become a file: .npy, .jsonl and .parquet, written in parts, then assembled.

A part is written at exactly the path that it is given. An assembled file, and the files beside it,
appear whole or not at all, the file itself last. Nothing depends on time, path or order of work.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from jaxbert.corpus.columns import Columns as Columns
from jaxbert.corpus.columns import Layout, as_json, check_names
from jaxbert.corpus.files import atomic_write, sibling
from jaxbert.corpus.parquet import Parquet
from jaxbert.errors import InputError

CHUNK = 1 << 20  # bytes at once, whatever the size of a file
# Digits that name a number exactly.
NUMBER = {"float32": "%.9g", "float16": "%.5g", "int8": "%d", "uint8": "%d"}


class Format(Protocol):
    """A kind of output file."""

    @property
    def suffix(self) -> str:
        """Of the parts, as of the output."""

    def check(self, carry: Sequence[str], with_text: bool) -> None:
        """Refuse columns that the file cannot have; ask before any work."""

    def check_values(self, values: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Refuse carried values of a row that the file cannot hold, such as infinity in JSON."""

    def write(self, file: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
        """One part, ids as they came; metadata has the keys that Layout reads, but `id_type`."""

    def assemble(self, parts: Sequence[Path], file: Path, metadata: Mapping[str, Any]) -> None:
        """All parts in this order as one file, with ids of the type that metadata says.

        Never more than one part is in memory.
        """


def format_of(output: str | Path) -> Format:
    """The format that a name asks for; what cannot be written is refused before any work."""
    path = Path(output)
    if path.suffix not in (".npy", ".parquet", ".jsonl", ".ndjson"):
        raise InputError(f"{output} ends in none of .npy, .parquet and .jsonl; choose one of them")
    if path.is_dir():
        raise InputError(f"{output} is a folder; name a file")
    if not path.resolve().parent.is_dir():
        raise InputError(f"the folder of {output} does not exist; make it first")
    if path.suffix == ".parquet":
        return Parquet()
    return Npy() if path.suffix == ".npy" else Jsonl(path.suffix)


class Npy:
    """Vectors alone, to be loaded with np.load(file, mmap_mode="r").

    Beside it lies OUT.ids.jsonl with one id a line, unless the ids are 0, 1, 2 ... A part has its
    ids behind the array, where np.load does not look.
    """

    suffix = ".npy"

    def check(self, carry: Sequence[str], with_text: bool) -> None:
        """Refuse columns that the file cannot have; ask before any work."""
        names = [*(["text"] if with_text else []), *carry]
        if names:
            raise InputError(
                f"a .npy file holds vectors alone, so {', '.join(names)} has no place in it; write "
                ".parquet or .jsonl"
            )

    def check_values(self, values: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Accept any: the file has no column for them."""

    def write(self, file: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
        """One part: the array, then its ids."""
        layout = Layout.of(metadata)
        layout.fit(columns)
        self.check(list(columns.carried), layout.with_text)
        with file.open("wb") as stream:
            header(stream, layout, len(columns.vectors))
            # Not tofile, whose error on a full disk does not say so.
            stream.write(np.ascontiguousarray(columns.vectors).data)
            for own in columns.ids:
                stream.write(as_json(own, "an id").encode() + b"\n")

    def assemble(self, parts: Sequence[Path], file: Path, metadata: Mapping[str, Any]) -> None:
        """All parts as one array of known length; written, not mapped.

        On a full disk a write is an error, but a mapped page kills the process.
        """
        layout = Layout.of(metadata)
        lengths = [part_length(part, layout) for part in parts]
        with atomic_write(file) as partial:
            with partial.open("wb") as stream:
                header(stream, layout, sum(lengths))
                for part, rows in zip(parts, lengths, strict=True):
                    with part.open("rb") as source:
                        skip_header(source)
                        copy(source, stream, rows * row_bytes(layout))
            write_ids(sibling(file, ".ids.jsonl"), parts, layout)


def header(stream: BinaryIO, layout: Layout, rows: int) -> None:
    """The beginning of a .npy file as np.save writes it."""
    descr = np.lib.format.dtype_to_descr(np.dtype(layout.dtype))
    shape = (rows, layout.width)
    np.lib.format.write_array_header_1_0(
        stream, {"descr": descr, "fortran_order": False, "shape": shape}
    )


def skip_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of an open .npy file, which is then at its first number."""
    np.lib.format.read_magic(stream)
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    return shape, dtype


def row_bytes(layout: Layout) -> int:
    """How many bytes one vector has in the file."""
    return layout.width * np.dtype(layout.dtype).itemsize


def part_length(part: Path, layout: Layout) -> int:
    """How many vectors a part has; refused if they are of another kind."""
    with part.open("rb") as stream:
        shape, dtype = skip_header(stream)
    if shape[1:] != (layout.width,) or dtype != np.dtype(layout.dtype):
        raise InputError(
            f"{part} holds {dtype} {list(shape)}, and the run {layout.dtype} [n, {layout.width}]; "
            "remove the folder of parts to begin anew"
        )
    return shape[0]


def ids_of(parts: Sequence[Path], layout: Layout) -> Iterator[bytes]:
    """The ids of all parts, one line each."""
    for part in parts:
        with part.open("rb") as stream:
            shape, _ = skip_header(stream)
            stream.seek(shape[0] * row_bytes(layout), 1)
            for line in stream:
                yield line if layout.id_type == "int64" else quoted(line, b"", b"\n")


def quoted(line: bytes, before: bytes, behind: bytes) -> bytes:
    """The line with the number between these as text; what is text already stays."""
    if line.startswith(before + b'"'):
        return line
    number, _, rest = line[len(before) :].partition(behind)
    return before + b'"' + number + b'"' + behind + rest


def write_ids(file: Path, parts: Sequence[Path], layout: Layout) -> None:
    """The file of ids; where they are 0, 1, 2 ... there is none, not even an old one."""
    if all(line == b"%d\n" % i for i, line in enumerate(ids_of(parts, layout))):
        file.unlink(missing_ok=True)
        return
    with atomic_write(file) as partial, partial.open("wb") as stream:
        stream.writelines(ids_of(parts, layout))


class Jsonl:
    """{"id": ..., "text" if asked for, carried columns, "embedding": [...]} a line.

    Numbers have as many digits as name them exactly.
    """

    def __init__(self, suffix: str = ".jsonl") -> None:
        """suffix is that of the output: .jsonl or .ndjson."""
        self.suffix = suffix

    def check(self, carry: Sequence[str], with_text: bool) -> None:
        """Refuse columns that the file cannot have; ask before any work."""
        check_names(tuple(carry), with_text)

    def check_values(self, values: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Refuse what JSON lacks: infinity, bytes."""
        for name, value in values.items():
            if not isinstance(value, str | int | None):
                as_json(value, f"the column {name!r}")

    def write(self, file: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
        """Write the rows of one part at this path."""
        layout = Layout.of(metadata)
        layout.fit(columns)
        with file.open("wb") as stream:
            stream.writelines(row.encode() for row in json_rows(columns, layout.with_text))

    def assemble(self, parts: Sequence[Path], file: Path, metadata: Mapping[str, Any]) -> None:
        """All parts, one behind the other."""
        numbers = Layout.of(metadata).id_type == "int64"
        with atomic_write(file) as partial, partial.open("wb") as stream:
            for part in parts:
                with part.open("rb") as source:
                    if numbers:
                        copy(source, stream, part.stat().st_size)
                    else:
                        copy_quoted(source, stream)


def json_rows(columns: Columns, with_text: bool) -> Iterator[str]:
    """The rows as JSON objects, one line each: id, text if asked for, carried, embedding."""
    named: dict[str, Sequence[Any]] = {"id": columns.ids}
    if with_text:
        named["text"] = columns.texts
    named |= columns.carried
    numbers = ", ".join([NUMBER[str(columns.vectors.dtype)]] * columns.vectors.shape[1])
    for i, vector in enumerate(columns.vectors):
        fields = (
            f"{as_json(name, 'a name')}: {as_json(column[i], f'the column {name!r}')}"
            for name, column in named.items()
        )
        yield f'{{{", ".join(fields)}, "embedding": [{numbers % tuple(vector.tolist())}]}}\n'


def copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """So many bytes from one open file to another, a piece at a time."""
    while size:
        piece = source.read(min(size, CHUNK))
        if not piece:
            raise InputError(f"{source.name} ends early; run the same command again to make it")
        target.write(piece)
        size -= len(piece)


def copy_quoted(source: BinaryIO, target: BinaryIO) -> None:
    """The lines of a part with their ids as text, a piece at a time."""
    begins = True
    while piece := source.readline(CHUNK):
        target.write(quoted(piece, b'{"id": ', b", ") if begins else piece)
        begins = piece.endswith(b"\n")
