"""Rows in, vectors out, part by part: read, tokenise, run and write, each ahead of the next.

What is in memory does not grow with the input: a part is read and tokenised while the device has
the one before, and written while the device has the one after.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from jaxbert import interrupts
from jaxbert.corpus.formats import Columns, Format
from jaxbert.corpus.parts import Parts
from jaxbert.corpus.rows import BadRow, Row, Source
from jaxbert.corpus.settings import in_file
from jaxbert.errors import ComputationError, InputChangedError, InputError, JaxbertError
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
    rejects: dict[int, BadRow] = field(default_factory=dict)  # by their places in the input
    refused: dict[int, str] = field(default_factory=dict)  # why, by their places among the rows
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
            self.rejects[self.first + self.count] = row._replace(raw=b"")
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

    def refuse(self, place: int, reason: str) -> None:
        """Go without the vector of one row."""
        self.refused[place] = reason
        self.missing -= 1

    @property
    def kept(self) -> list[int]:
        """The places of the rows that have vectors."""
        return [place for place in range(len(self.rows)) if place not in self.refused]

    def rejected(self) -> list[dict[str, str]]:
        """The rows of the input that have none, and why, in order."""
        bad = {place: (row.where, row.reason) for place, row in self.rejects.items()}
        bad |= {self.places[i]: (self.rows[i].where, why) for i, why in self.refused.items()}
        return [{"where": where, "reason": reason} for _, (where, reason) in sorted(bad.items())]


class Window(NamedTuple):
    """Rows of a part that are tokenised together."""

    part: Part
    places: list[int]  # among the rows of the part
    texts: list[str]


class Tokenised(NamedTuple):
    """The same rows as token ids, without those that cannot be."""

    part: Part
    places: np.ndarray
    ids: list[np.ndarray]
    refused: dict[int, JaxbertError]


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


class Flow:
    """Token ids on their way to the engine, and the vectors on their way back into parts.

    Iterating gives windows of ids to the engine, and may be broken off and begun again.
    """

    def __init__(
        self,
        windows: Iterator[Tokenised],
        refuse: Callable[[Part, int, JaxbertError], None],
        write: Callable[[Part], None],
    ) -> None:
        """refuse is told of rows that have no ids, write of parts that have all their vectors."""
        self.windows, self.refuse, self.write = windows, refuse, write
        self.begin()
        self.ended = False

    def begin(self) -> None:
        """Nothing is with the engine."""
        self.coming: deque[tuple[int, Tokenised, np.ndarray]] = deque()  # with what is taken
        self.given = 0

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        """The ids of each window that has any."""
        for window in self.windows:
            for place, error in window.refused.items():
                self.refuse(window.part, place, error)
            if window.ids:
                taken = np.zeros(len(window.ids), bool)
                self.coming.append((self.given, window, taken))
                self.given += len(window.ids)
                yield window.ids
            elif window.part.missing == 0:
                self.write(window.part)
        self.ended = True

    def take(self, members: np.ndarray, vectors: np.ndarray) -> None:
        """Put vectors in their places; they come in the order of the windows."""
        while len(self.coming) > 1 and self.coming[1][0] <= members[0]:
            self.coming.popleft()
        first, window, taken = self.coming[0]
        taken[members - first] = True
        window.part.take(window.places[members - first], vectors)
        if window.part.missing == 0:
            self.write(window.part)

    def place(self, text: int) -> tuple[Part, int]:
        """Which row of which part the engine has as this text; it counts as taken."""
        first, window, taken = [own for own in self.coming if own[0] <= text][-1]
        taken[text - first] = True
        return window.part, int(window.places[text - first])

    def drained(self) -> Iterator[tuple[Part, list[int], list[np.ndarray]]]:
        """What is with the engine and not taken, which is given up there."""
        left = list(self.coming)
        self.begin()
        for _, window, taken in left:
            rest = np.flatnonzero(~taken)
            if rest.size:
                places = [int(window.places[i]) for i in rest]
                yield window.part, places, [window.ids[i] for i in rest]


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
    rows: int = 0  # of the input, bad ones included; known then too
    sums: list[str] = field(default_factory=list)  # of the rows of each part, as far as it is read
    stopped: Event = field(default_factory=Event)  # tells the thread that reads

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
        engine, start = self.request.engine, time.perf_counter()
        with self.reading(), Writer(self.write) as write:
            flow = Flow(ahead(self.tokenised, self.unmade()), self.refuse, write)
            while not flow.ended:
                try:
                    for members, vectors in self.vectors(flow):
                        flow.take(members, vectors)
                except ComputationError as error:
                    part, place = flow.place(error.text)
                    self.refuse(part, place, error)
                    if part.missing == 0:
                        write(part)
                    for part, places, ids in flow.drained():
                        self.one_by_one(part, places, ids)
                        if part.missing == 0:
                            write(part)
        engine.tally.add(seconds=time.perf_counter() - start)

    def vectors(
        self, windows: Iterable[list[np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts, their vectors) as the engine has them."""
        engine, skipped = self.request.engine, np.array(self.request.skipped, np.int32)
        return engine.run(engine.vectors, windows, None, skipped)

    def one_by_one(self, part: Part, places: Sequence[int], ids: list[np.ndarray]) -> None:
        """Vectors of rows one of which has none; which others have none is found by halves."""

        def of(some: Sequence[int]) -> np.ndarray:
            found = np.zeros((len(some), self.width), np.float32)
            for members, vectors in self.vectors([[ids[i] for i in some]]):
                found[members] = vectors
            return found

        for place, one in zip(places, sifted(of, range(len(ids))), strict=True):
            if isinstance(one, JaxbertError):
                self.refuse(part, place, one)
            else:
                part.take(np.array([place]), one[None])

    def refuse(self, part: Part, place: int, error: JaxbertError) -> None:
        """Go without one row, or end the run where rows are not to be left out."""
        row, reason = part.rows[place], reason_of(error)
        if self.skip_bad:
            part.refuse(place, reason)
        elif isinstance(error, ComputationError):
            more = error.__reduce__()[1][2:]
            raise ComputationError(row.where, part.places[place], *more) from error
        else:
            raise InputError(
                f"{row.where} {reason}; leave such rows out with --on-bad-row skip"
            ) from error

    def read(self) -> Iterator[Part]:
        """The input in parts; where one ends depends on the input alone."""
        part, whole, ids = Part(0), hashlib.sha256(), "int64"
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
            if isinstance(row, BadRow):
                self.check_bad(part, row)
            elif isinstance(row.id, str):
                ids = "string"
            part.add(row)
        if part.count:
            whole.update(part.seen.digest())
            self.sums.append(part.seen.hexdigest())
            yield part
        self.metadata |= {"input_sha256": whole.hexdigest(), "id_type": ids}
        self.total = part.number + (1 if part.count else 0)
        self.rows = part.first + part.count

    def check_bad(self, part: Part, row: BadRow) -> None:
        """End the run at a bad row of this worker, where rows are not to be left out."""
        if not self.skip_bad and self.parts.mine(part.number):
            raise InputError(
                f"{row.where} {row.reason}; correct it and give the same command again, or "
                "leave such rows out with --on-bad-row skip"
            )

    def unmade(self) -> Iterator[Window]:
        """The rows of this worker's new parts; a part without rows is one window."""
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
            for first, some in windows(texts, len(self.request.prefix)) if texts else [(0, [])]:
                yield Window(part, list(range(first, first + len(some))), list(some))

    def check_done(self, part: Part, record: Mapping[str, Any]) -> None:
        """Refuse a finished part that was made of other rows."""
        if part.seen.hexdigest() != record["input_sha256"]:
            raise changed(part.number, f"rows {part.first} to {part.first + part.count - 1} differ")

    def tokenised(self, window: Window) -> Tokenised:
        """The window with ids in the place of texts."""
        found = sifted(self.ids, window.texts)
        refused, places, ids = {}, [], []
        for place, one in zip(window.places, found, strict=True):
            if isinstance(one, JaxbertError):
                refused[place] = one
            else:
                places.append(place)
                ids.append(one)
        if not self.metadata["with_text"]:
            for place in window.places:  # a text may be long, and waits with its part
                window.part.rows[place] = window.part.rows[place]._replace(text="")
        return Tokenised(window.part, np.array(places, np.int64), ids, refused)

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of texts, which the engine can run; what it refuses, it refuses here."""
        engine = self.request.engine
        ids = self.request.tokenizer(
            [self.request.prefix + text for text in texts], self.request.long.most
        )
        engine.check_tokens(ids)
        for count in set(map(len, ids)):
            for batch in engine.planner.plan([count], None):
                engine.check_memory(batch.rows, batch.length)
        return ids

    def finished(self, part: Part) -> np.ndarray:
        """The vectors of the rows that are kept, as they stand in the file."""
        kept = part.kept
        found = sifted(lambda some: self.finish(part.vectors[list(some)]), kept)
        for place, one in zip(kept, found, strict=True):
            if isinstance(one, JaxbertError):
                self.refuse(part, place, one)
        good = [one for one in found if not isinstance(one, JaxbertError)]
        vectors = np.stack(good) if good else self.finish(part.vectors[:0])
        with np.errstate(over="ignore"):
            vectors = in_file(vectors, self.precision)
        if vectors.dtype.kind != "f":
            return vectors
        whole = np.isfinite(vectors).all(axis=1)
        for place, fits in zip(part.kept, whole, strict=True):
            if not fits:
                large = "has a vector with numbers too large for"
                self.refuse(part, place, RowRefusedError(f"{large} {vectors.dtype}"))
        return np.asarray(vectors[whole])

    def write(self, part: Part) -> None:
        """Finish the vectors of a part, and write it."""
        vectors, kept = self.finished(part), part.kept
        rows = [part.rows[i] for i in kept]
        columns = Columns(
            ids=[
                part.places[i] if row.id is None else row.id
                for i, row in zip(kept, rows, strict=True)
            ],
            texts=[row.text for row in rows],
            carried={name: [row.carried[i] for row in rows] for i, name in enumerate(self.carry)},
            vectors=vectors,
        )
        rejected = part.rejected()
        self.parts.finish(
            part.number,
            lambda file: self.format.write(file, columns, self.metadata),
            {
                "rows": len(rows),
                "rejected": len(rejected),
                "without_id": sum(row.id is None for row in rows),
                "input_sha256": part.seen.hexdigest(),
            },
            rejected,
        )
        self.request.engine.tally.add(texts=len(rows))
        self.report(part.count, self.request.engine.stats, self.source.fraction())


class RowRefusedError(JaxbertError, ValueError):
    """A row that cannot be written; the message goes on from its name."""


def reason_of(error: JaxbertError) -> str:
    """What is wrong with a row, to follow its place."""
    if isinstance(error, ComputationError):
        return f"gives a vector that {getattr(error, 'fault', 'is not finite')}"
    if isinstance(error, RowRefusedError):
        return str(error)
    return getattr(error, "reason", None) or f"cannot be embedded ({error})"


def sifted(function: Callable[[Sequence[Any]], Iterable[Any]], items: Sequence[Any]) -> list[Any]:
    """function(items), one result each; where it refuses some, their errors in their places.

    Which they are is found by halves, so that few of many cost few calls.
    """
    try:
        return list(function(items)) if items else []
    except JaxbertError as error:
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return sifted(function, items[:middle]) + sifted(function, items[middle:])


def changed(part: int, how: str) -> InputChangedError:
    """The error that says which finished part does not fit the input any more."""
    return InputChangedError(
        f"the input has changed since part {part} was made ({how}); restore it, or remove the "
        "folder of parts to begin anew"
    )
