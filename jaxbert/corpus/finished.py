"""The output of a finished run, read again a piece at a time: its vectors, and some of its rows."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.corpus.arrow import pyarrow
from jaxbert.corpus.files import sibling
from jaxbert.corpus.formats import format_of
from jaxbert.corpus.product import Product
from jaxbert.errors import InputError

# Rows of a file that are in memory at a time.
ROWS = 8192


class Finished:
    """A run's output that its record vouches for; sizes are compared, and no sums."""

    def __init__(self, output: str) -> None:
        """Raises InputError for a name that no run can have, and for what no record vouches for."""
        self.path = Path(output)
        self.suffix = format_of(output).suffix
        product = Product(self.path)
        fault = product.fault(sums=False)
        metadata = product.metadata()
        if fault is not None or metadata is None:
            raise InputError(f"{fault}; finish or repeat the run of jaxbert embed that made it")
        self.metadata: Mapping[str, Any] = metadata

    def __len__(self) -> int:
        """The number of rows that the run wrote."""
        if self.suffix == ".npy":
            return len(np.load(self.path, mmap_mode="r"))
        if self.suffix == ".parquet":
            with pyarrow("pyarrow.parquet").ParquetFile(self.path) as file:
                return int(file.metadata.num_rows)
        with self.path.open("rb") as stream:
            return sum(1 for _ in stream)

    def pieces(self) -> Iterator[np.ndarray]:
        """The vectors in their order, [r, width] each."""
        width = int(self.metadata["vectors"]["width"])
        if self.suffix == ".npy":
            vectors = np.load(self.path, mmap_mode="r")
            yield from (vectors[i : i + ROWS] for i in range(0, len(vectors), ROWS))
        elif self.suffix == ".parquet":
            with pyarrow("pyarrow.parquet").ParquetFile(self.path) as file:
                for batch in file.iter_batches(ROWS, columns=["embedding"], use_threads=False):
                    flat = batch.column(0).flatten()
                    yield flat.to_numpy(zero_copy_only=False).reshape(-1, width)
        else:
            kind, some = np.dtype(self.metadata["vectors"]["dtype"]), []
            for row in self.lines(self.path):
                some.append(np.array(row["embedding"], kind))
                if len(some) == ROWS:
                    yield np.stack(some)
                    some = []
            if some:
                yield np.stack(some)

    def rows(self, wanted: Collection[int]) -> dict[int, dict[str, Any]]:
        """id, and text where the run wrote texts, of the rows of these numbers."""
        numbers = set(wanted)
        if self.suffix == ".npy":
            ids = sibling(self.path, ".ids.jsonl")
            if not ids.exists():
                return {i: {"id": i} for i in numbers}
            lines = enumerate(self.lines(ids))
            return {i: {"id": own} for i, own in lines if i in numbers}
        if self.suffix == ".parquet":
            return self.table_rows(numbers)
        names = self.names()
        return {
            i: {name: row[name] for name in names}
            for i, row in enumerate(self.lines(self.path))
            if i in numbers
        }

    def names(self) -> list[str]:
        """The columns that say which row it is."""
        return ["id", "text"] if self.metadata["with_text"] else ["id"]

    def table_rows(self, numbers: set[int]) -> dict[int, dict[str, Any]]:
        """`rows` of a Parquet file."""
        found: dict[int, dict[str, Any]] = {}
        first = 0
        with pyarrow("pyarrow.parquet").ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS, columns=self.names(), use_threads=False):
                own = sorted(i for i in numbers if first <= i < first + len(batch))
                rows = batch.take(pyarrow().array([i - first for i in own], "int64")).to_pylist()
                found.update(zip(own, rows, strict=True))
                first += len(batch)
        return found

    def lines(self, file: Path) -> Iterator[Any]:
        """The values of a file of JSON lines."""
        with file.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"{file} is damaged: line {number} is no JSON; repeat its run"
                    ) from error
