"""The rows of a source in numbered parts, and what is known of an input when it has been read."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Any, Self

from jaxbert.corpus.part import Part
from jaxbert.corpus.rows import BadRow, Source
from jaxbert.errors import InputChangedError
from jaxbert.process import interrupts

# A part ends after so many rows, or so many bytes of them, whichever is first.
ROWS, BYTES = 16_384, 2**26


@dataclass(frozen=True)
class InputSummary:
    """What is known of an input that has been read to its end."""

    rows: int  # bad ones included
    id_type: str  # "string" if a row has a text as its id, else "int64"
    sums: tuple[str, ...]  # the hash of the rows of each part

    @property
    def parts(self) -> int:
        """How many parts it has."""
        return len(self.sums)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the metadata of an output say of its input."""
        whole = hashlib.sha256(b"".join(map(bytes.fromhex, self.sums)))
        return {"input_sha256": whole.hexdigest(), "id_type": self.id_type}

    def check(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Refuse finished parts, by their records, that were made of another input."""
        for k, record in sorted(records.items()):
            if k >= self.parts:
                raise changed(k, "it has fewer rows")
            if record["input_sha256"] != self.sums[k]:
                raise changed(k, "its rows are others")


def check_unchanged(part: Part, record: Mapping[str, Any]) -> None:
    """Refuse a finished part, by its record, that was made of other rows."""
    if part.sha256 != record["input_sha256"]:
        raise changed(part.number, f"rows {part.first} to {part.first + part.count - 1} differ")


def changed(part: int, how: str) -> InputChangedError:
    """The error that says which finished part does not fit the input any more."""
    return InputChangedError(
        f"the input has changed since part {part} was made ({how}); restore it, or remove the "
        "folder of parts to begin anew"
    )


class Reader:
    """Reads a source once, part by part; where a part ends depends on the input alone.

    A thread may iterate. After the `with` block it reads no further than the next row.
    """

    def __init__(
        self, source: Source, size: int, on_bad_row: Callable[[int, BadRow], None]
    ) -> None:
        """A part has `size` rows; on_bad_row is given a part's number and a row, and may raise."""
        self.source, self.size, self.on_bad_row = source, size, on_bad_row
        self.stopped = Event()
        self.found: InputSummary | None = None

    def __enter__(self) -> Self:
        """The reader, which has not read anything yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Tell the thread that iterates to stop."""
        self.stopped.set()

    def __iter__(self) -> Iterator[Part]:
        """The parts in order, none of them empty."""
        part, ids, sums = Part(0), "int64", list[str]()
        for number, row in enumerate(self.source.rows(), start=1):
            interrupts.check()
            if self.stopped.is_set():
                return
            if isinstance(row, BadRow):
                self.on_bad_row(part.number, row)
            elif isinstance(row.id, str):
                ids = "string"
            part.add(row)
            if part.count == self.size or part.size >= BYTES:
                sums.append(part.sha256)
                yield part
                part = Part(part.number + 1, number)
        if part.count:
            sums.append(part.sha256)
            yield part
        self.found = InputSummary(part.first + part.count, ids, tuple(sums))

    @property
    def summary(self) -> InputSummary:
        """What was read, known after the last part."""
        if self.found is None:
            raise RuntimeError("the input has not been read to its end")
        return self.found
