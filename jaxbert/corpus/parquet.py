"""Parts and outputs as Parquet: vectors are lists of fixed size, taken as they lie in memory.

The bytes depend on the content and on the version of pyarrow: every option of the writer that
matters is fixed here, and one part is one row group, copied in order.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.corpus.arrow import pyarrow, together
from jaxbert.corpus.columns import Columns, Layout, as_json, check_names, is_unicode
from jaxbert.corpus.fields import Cell
from jaxbert.corpus.files import atomic_write
from jaxbert.errors import InputError

KEY = "jaxbert"
ELEMENTS = "embedding.list.element"  # the numbers inside the vectors, by Parquet's own path


class Parquet:
    """id, text if asked for, carried columns, embedding."""

    suffix = ".parquet"

    def __init__(self) -> None:
        """Refused where pyarrow is missing."""
        pyarrow("pyarrow.parquet")

    def check(self, carry: Sequence[str], with_text: bool) -> None:
        """Refuse columns that the file cannot have; ask before any work."""
        check_names(tuple(carry), with_text)

    def check_values(self, values: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Refuse what JSON lacks in columns of text."""
        kinds = {column["name"]: column["type"] for column in metadata.get("carried", ())}
        for name, value in values.items():
            if kinds[name] == "text":
                as_text(name, value)

    def write(self, file: Path, columns: Columns, metadata: Mapping[str, Any]) -> None:
        """One part, at exactly this path; its metadata wait for the output."""
        layout = Layout.of(metadata)
        layout.fit(columns)
        rows = table(columns, layout)
        with writer(file, layout, rows.schema) as out:
            out.write_table(rows)

    def assemble(self, parts: Sequence[Path], file: Path, metadata: Mapping[str, Any]) -> None:
        """All parts in this order as one file, one row group each; one part in memory at a time."""
        layout = Layout.of(metadata)
        known = {KEY: json.dumps(metadata, sort_keys=True, ensure_ascii=True, allow_nan=False)}
        own = schema(layout, next(filter(None, map(carried_types, parts)), {}))
        with (
            atomic_write(file) as partial,
            writer(partial, layout, own.with_metadata(known)) as out,
        ):
            for part in parts:
                rows = read_part(part)
                if len(rows):  # a part without rows does not know the types of its columns
                    ids = rows["id"].cast(own.field("id").type)
                    rows = rows.set_column(0, own.field("id"), ids)
                    out.write_table(rows.cast(own), row_group_size=len(rows))
                del rows  # before the next one is read


def schema(layout: Layout, types: Mapping[str, Any] | None = None) -> Any:
    """The pyarrow schema; where a value may be missing the column says so.

    types are those of carried columns that came as Arrow; the others follow from their names.
    """
    pa = pyarrow()
    number = pa.field("element", pa.from_numpy_dtype(np.dtype(layout.dtype)), nullable=False)
    fields = [pa.field("id", pa.type_for_alias(layout.id_type), nullable=False)]
    if layout.with_text:
        fields.append(pa.field("text", pa.string(), nullable=False))
    for name, kind in layout.carried.items():
        fields.append(pa.field(name, (types or {}).get(name) or carried_type(kind)))
    fields.append(pa.field("embedding", pa.list_(number, layout.width), nullable=False))
    return pa.schema(fields)


def carried_type(kind: str) -> Any:
    """Arrow's type of that name; text for what has no short name, such as lists."""
    pa = pyarrow()
    try:
        return pa.string() if kind == "text" else pa.type_for_alias(kind)
    except ValueError:
        return pa.string()


def carried_types(part: Path) -> dict[str, Any]:
    """The types of the columns of a part; none if it has no rows, and so does not know them."""
    with part.open("rb") as stream, pyarrow("pyarrow.parquet").ParquetFile(stream) as file:
        own = file.schema_arrow
        return {field.name: field.type for field in own} if file.metadata.num_rows else {}


@contextmanager
def writer(file: Path, layout: Layout, schema: Any) -> Iterator[Any]:
    """A pyarrow ParquetWriter with every option that changes bytes given."""
    # Repeated values are worth a dictionary, and so are bytes, which Parquet stores as int32.
    dictionary = [*layout.carried, *([ELEMENTS] if layout.dtype in ("int8", "uint8") else [])]
    options = {
        "version": "2.6",
        "data_page_version": "1.0",
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": dictionary,
        "write_statistics": [name for name in schema.names if name != "embedding"],
    }
    with (
        file.open("wb") as stream,
        pyarrow("pyarrow.parquet").ParquetWriter(stream, schema, **options) as out,
    ):
        yield out


def table(columns: Columns, layout: Layout) -> Any:
    """The columns as a pyarrow table; ids are numbers if all of them are, else text."""
    numbers = all(isinstance(own, int) for own in columns.ids)
    ids = columns.ids if numbers else [str(own) for own in columns.ids]
    layout = replace(layout, id_type="int64" if numbers else "string")
    carried = {
        name: together(columns.carried[name])
        for name, kind in layout.carried.items()
        if kind != "text" and are_cells(columns.carried[name])
    }
    own = schema(layout, {name: column.type for name, column in carried.items()})
    arrays = [array("id", ids, own.field("id").type)]
    if layout.with_text:
        arrays.append(array("text", columns.texts, own.field("text").type))
    for name in layout.carried:
        if name not in carried:
            carried[name] = array(name, columns.carried[name], own.field(name).type)
        arrays.append(carried[name])
    arrays.append(embedding(columns.vectors, own.field("embedding").type))
    return pyarrow().table(arrays, schema=own)


def are_cells(values: Sequence[Any]) -> bool:
    """Whether a column came as Arrow."""
    return bool(values) and all(isinstance(value, Cell) for value in values)


def array(name: str, values: Sequence[Any], kind: Any) -> Any:
    """A column as an Arrow array; in a column of text, what is no text is JSON."""
    pa = pyarrow()
    if kind == pa.string():
        values = [as_text(name, value) for value in values]
    try:
        return pa.array(values, kind)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(
            f"the column {name!r} holds a value that is no {kind} ({error}); leave the column out, "
            "or write .jsonl"
        ) from error


def as_text(name: str, value: Any) -> str | None:
    """A text as it is, nothing as nothing, the rest as JSON."""
    if isinstance(value, Cell):
        value = value.value
    if value is None or (isinstance(value, str) and is_unicode(value)):
        return value
    return as_json(value, f"the column {name!r}")


def embedding(vectors: np.ndarray, kind: Any) -> Any:
    """[n, w] -> lists of the fixed size w; the numbers are not copied."""
    pa = pyarrow()
    numbers = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(numbers, type=kind)


def read_part(part: Path) -> Any:
    """The rows of a part as a pyarrow table."""
    with part.open("rb") as stream, pyarrow("pyarrow.parquet").ParquetFile(stream) as file:
        return file.read(use_threads=False)
