"""Rows in, vectors out, part by part: read, tokenise, run and write, each ahead of the next.

What is in memory does not grow with the input: a part is read and tokenised while the device has
the one before, and written while the device has the one after.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Protocol

import numpy as np

from jaxbert.corpus.flow import Flow, Part, Tokenised, Window, Writer
from jaxbert.corpus.formats import Columns, Format
from jaxbert.corpus.parts import Parts
from jaxbert.corpus.rows import BadRow, Source
from jaxbert.corpus.settings import in_file
from jaxbert.corpus.sifting import RowRefusedError, reason_of, sifted
from jaxbert.errors import ComputationError, InputChangedError, InputError, JaxbertError
from jaxbert.inference.outputs import Finish
from jaxbert.inference.prefetch import prefetched, text_windows
from jaxbert.inference.request import Request
from jaxbert.inference.stats import Stats
from jaxbert.process import interrupts

# A part ends after so many rows, or so many bytes of them, whichever is first.
ROWS, BYTES = 16_384, 2**26


class Report(Protocol):
    """Is told of rows that are done."""

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """So many more rows; share is how much of the input is read."""


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
            flow = Flow(prefetched(self.tokenised, self.unmade()), self.refuse, write)
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
        engine.counter.add(seconds=time.perf_counter() - start)

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
            for first, some in (
                text_windows(texts, len(self.request.prefix)) if texts else [(0, [])]
            ):
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
        for place in part.kept:
            self.check_carried(part, place)
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

    def check_carried(self, part: Part, place: int) -> None:
        """Refuse a row with values that the file cannot hold."""
        values = dict(zip(self.carry, part.rows[place].carried, strict=True))
        try:
            self.format.check_values(values, self.metadata)
        except InputError as error:
            self.refuse(part, place, RowRefusedError(f"cannot be written: {error}"))

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
        self.request.engine.counter.add(texts=len(rows))
        self.report(part.count, self.request.engine.stats, self.source.fraction())


def changed(part: int, how: str) -> InputChangedError:
    """The error that says which finished part does not fit the input any more."""
    return InputChangedError(
        f"the input has changed since part {part} was made ({how}); restore it, or remove the "
        "folder of parts to begin anew"
    )
