"""Rows in, vectors out, part by part: read, tokenise, run and write, each ahead of the next.

What is in memory does not grow with the input: a part is read and tokenised while the device has
the one before, and written while the device has the one after.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from jaxbert import interrupts
from jaxbert.corpus.formats import Columns, Format
from jaxbert.corpus.parts import Parts
from jaxbert.corpus.rows import BadRow, Row, Source
from jaxbert.corpus.settings import in_file
from jaxbert.errors import ComputationError, InputChangedError, InputError
from jaxbert.outputs import Finish
from jaxbert.request import Request
from jaxbert.runner import Stats, ahead, windows

# A part ends after so many rows, or so many bytes of them, whichever is first.
ROWS, BYTES = 16_384, 2**26
# Parts that may wait to be written; then the device waits.
UNWRITTEN = 2


class Report(Protocol):
    """Is told of rows that are done."""

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """So many more rows; share is how much of the input is read."""


@dataclass
class Part:
    """The rows of one part, and their vectors as they come."""

    number: int
    first: int = 0  # the number of its first row in the input
    rows: list[Row] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each in the input
    rejects: list[BadRow] = field(default_factory=list)
    size: int = 0  # bytes of the good rows as they were read
    seen: Any = field(default_factory=hashlib.sha256)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    missing: int = 0

    @property
    def count(self) -> int:
        """Rows of the input, bad ones included."""
        return len(self.rows) + len(self.rejects)

    def add(self, row: Row | BadRow) -> None:
        """Take a row; its bytes are hashed, each with its length before it."""
        self.seen.update(len(row.raw).to_bytes(8, "little"))
        self.seen.update(row.raw)
        if isinstance(row, BadRow):
            self.rejects.append(row._replace(raw=b""))
            return
        self.places.append(self.first + self.count)
        self.rows.append(row._replace(raw=b""))
        self.size += len(row.raw)

    def expect(self, width: int) -> None:
        """Make room for the vectors."""
        self.vectors = np.zeros((len(self.rows), width), np.float32)
        self.missing = len(self.rows)

    def take(self, places: np.ndarray, vectors: np.ndarray) -> None:
        """Put vectors in their places."""
        self.vectors[places] = vectors
        self.missing -= len(places)


class Writer:
    """Writes parts in a thread, a few of them waiting at most; an error is raised to the caller."""

    def __init__(self, write: Callable[[Part], None]) -> None:
        """Nothing is written yet."""
        self.write = write
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[None]] = deque()

    def __call__(self, part: Part) -> None:
        """Write a part, when those before it are written."""
        self.waiting.append(self.pool.submit(self.write, part))
        while len(self.waiting) > UNWRITTEN:
            self.waiting.popleft().result()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Wait until everything is written, also when the run has failed: it is finished work."""
        self.pool.shutdown(wait=True)
        if error is None:
            for future in self.waiting:
                future.result()


@dataclass
class Run:
    """One worker's share of a run, from objects that are ready."""

    source: Source
    parts: Parts
    format: Format
    request: Request
    finish: Finish
    precision: str  # in the file
    width: int  # of a vector before `finish`
    carry: tuple[str, ...]
    skip_bad: bool
    report: Report
    metadata: dict[str, Any]
    size: int = ROWS
    total: int = 0  # parts of the run, known when the input has ended
    sums: list[str] = field(default_factory=list)  # of the rows of each part, as far as it is read
    stopped: Event = field(default_factory=Event)  # tells the thread that reads
    id_type: type | None = None  # of the rows' ids, by the first row

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Behind it the thread that reads goes on no longer."""
        self.stopped.clear()
        try:
            yield
        finally:
            self.stopped.set()

    def check(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Refuse finished parts that are not of the input that was just read to its end."""
        for k, record in sorted(records.items()):
            if k >= self.total or record["input_sha256"] != self.sums[k]:
                raise changed(k, "it has fewer rows" if k >= self.total else "its rows are others")

    def survey(self) -> None:
        """Read the input for what the metadata say of it, and do nothing with it."""
        for _ in self.read():
            pass

    def work(self) -> None:
        """Make all parts of this worker that are not there."""
        coming: deque[tuple[int, int, Part]] = deque()  # first text, its place in the part, part

        def tokens() -> Iterator[list[np.ndarray]]:
            first = 0
            for part, place, ids in ahead(self.tokenised, self.unmade()):
                if not part.rows:
                    write(part)
                    continue
                coming.append((first, place, part))
                first += len(ids)
                yield ids

        engine, skipped = self.request.engine, np.array(self.request.skipped, np.int32)
        start = time.perf_counter()
        with self.reading(), Writer(self.write) as write, named_by_row(coming):
            for members, vectors in engine.run(engine.vectors, tokens(), None, skipped):
                while len(coming) > 1 and coming[1][0] <= members[0]:
                    coming.popleft()  # results come in the order of the windows
                first, place, part = coming[0]
                part.take(members - first + place, vectors)
                if part.missing == 0:
                    write(part)
        engine.tally.add(seconds=time.perf_counter() - start)

    def read(self) -> Iterator[Part]:
        """The input in parts; where one ends depends on the input alone."""
        part, whole = Part(0), hashlib.sha256()
        self.sums.clear()
        for number, row in enumerate(self.source.rows()):
            interrupts.check()
            if self.stopped.is_set():
                return
            if part.count == self.size or part.size >= BYTES:
                whole.update(part.seen.digest())
                self.sums.append(part.seen.hexdigest())
                yield part
                part = Part(part.number + 1, number)
            row = self.checked(number, row)
            if isinstance(row, BadRow) and not self.skip_bad and self.parts.mine(part.number):
                raise InputError(
                    f"{row.where} {row.reason}; correct it and give the same command again, or "
                    "leave such rows out with --on-bad-row skip"
                )
            part.add(row)
        if part.count:
            whole.update(part.seen.digest())
            self.sums.append(part.seen.hexdigest())
            yield part
        self.metadata["input_sha256"] = whole.hexdigest()
        self.total = part.number + (1 if part.count else 0)

    def checked(self, number: int, row: Row | BadRow) -> Row | BadRow:
        """The row, if its id is of the same type as the first one's; else a bad row."""
        if isinstance(row, BadRow):
            return row
        kind = type(row.id)
        if self.id_type is None:
            self.id_type = kind
            self.metadata["id_type"] = "string" if kind is str else "int64"
        if kind is self.id_type:
            return row
        reason = f"has the id {row.id!r}, which is not of the type that the first row's id has"
        return BadRow(f"row {number + 1} of the input", reason, row.raw)

    def unmade(self) -> Iterator[tuple[Part, int, list[str]]]:
        """(part, the place of the first text in it, texts): windows of this worker's new parts."""
        done = self.parts.done()
        for part in self.read():
            if not self.parts.mine(part.number):
                continue
            if part.number in done:
                self.check_done(part, done[part.number])
                self.report(part.count, self.request.engine.stats, self.source.fraction())
                continue
            part.expect(self.width)
            texts = [row.text for row in part.rows]
            for place, some in windows(texts, len(self.request.prefix)) if texts else [(0, [])]:
                yield part, place, list(some)

    def check_done(self, part: Part, record: Mapping[str, Any]) -> None:
        """Refuse a finished part that was made of other rows."""
        if part.seen.hexdigest() != record["input_sha256"]:
            raise changed(part.number, f"rows {part.first} to {part.first + part.count - 1} differ")

    def tokenised(self, window: tuple[Part, int, list[str]]) -> tuple[Part, int, list[np.ndarray]]:
        """The window with ids in the place of texts."""
        part, place, texts = window
        prefixed = [self.request.prefix + text for text in texts]
        return part, place, self.request.tokenizer(prefixed, self.request.long.most)

    def write(self, part: Part) -> None:
        """Finish the vectors of a part, and write it."""
        columns = Columns(
            ids=[
                place if row.id is None else row.id
                for place, row in zip(part.places, part.rows, strict=True)
            ],
            texts=[row.text for row in part.rows],
            carried={
                name: [row.carried[i] for row in part.rows] for i, name in enumerate(self.carry)
            },
            vectors=in_file(self.finish(part.vectors), self.precision),
        )
        self.parts.finish(
            part.number,
            lambda file: self.format.write(file, columns, self.metadata),
            {
                "rows": len(part.rows),
                "rejected": len(part.rejects),
                "input_sha256": part.seen.hexdigest(),
            },
            [{"where": row.where, "reason": row.reason} for row in part.rejects],
        )
        self.request.engine.tally.add(texts=len(part.rows))
        self.report(part.count, self.request.engine.stats, self.source.fraction())


@contextmanager
def named_by_row(coming: Iterable[tuple[int, int, Part]]) -> Iterator[None]:
    """A vector that is not finite is named by its row in the input."""
    try:
        yield
    except ComputationError as error:
        first, place, part = [own for own in coming if own[0] <= error.text][-1]
        row = part.places[place + error.text - first]
        raise ComputationError(f"row {row + 1} of the input", row) from error


def changed(part: int, how: str) -> InputChangedError:
    """The error that says which finished part does not fit the input any more."""
    return InputChangedError(
        f"the input has changed since part {part} was made ({how}); restore it, or remove the "
        "folder of parts to begin anew"
    )
