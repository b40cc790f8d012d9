"""Rows in, vectors out, part by part: read, tokenise, run and write, each ahead of the next.

What is in memory does not grow with the input: a part is read and tokenised while the device has
the one before, and written while the device has the one after.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxbert.corpus.bad_rows import BadRows
from jaxbert.corpus.flow import Flow, Tokenised, Window, Writer, tokenised
from jaxbert.corpus.output import Output
from jaxbert.corpus.part import Part
from jaxbert.corpus.reader import ROWS, InputSummary, Reader, check_unchanged
from jaxbert.corpus.rows import BadRow, Source
from jaxbert.corpus.run_parts import RunParts
from jaxbert.corpus.sifting import sifted
from jaxbert.errors import ComputationError, JaxbertError
from jaxbert.inference.prefetch import prefetched, text_windows
from jaxbert.inference.request import Request
from jaxbert.inference.stats import Stats


class Report(Protocol):
    """Is told of rows that are done."""

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """So many more rows; share is how much of the input is read."""


@dataclass(frozen=True)
class Run:
    """One worker's share of a run, from objects that are ready."""

    source: Source
    parts: RunParts
    request: Request
    output: Output
    bad_rows: BadRows
    report: Report
    size: int = ROWS  # of a part

    def reader(self) -> Reader:
        """A new pass over the input; a bad row concerns the worker that makes its part."""

        def on_bad_row(number: int, row: BadRow) -> None:
            if self.parts.mine(number):
                self.bad_rows.unreadable(row)

        return Reader(self.source, self.size, on_bad_row)

    def survey(self) -> InputSummary:
        """What the input is; it is read to its end, and nothing is done with it."""
        reader = self.reader()
        for _ in reader:
            pass
        return reader.summary

    def work(self) -> InputSummary:
        """Make all parts of this worker that are not there; what the input was."""
        engine, start = self.request.engine, time.perf_counter()
        self.parts.recover()
        with self.reader() as reader, Writer(self.write) as write:
            unmade = self.unmade(reader, self.parts.records())
            flow = Flow(prefetched(self.tokenised, unmade), self.bad_rows.refused, write)
            while not flow.ended:
                try:
                    for members, vectors in self.vectors(flow):
                        flow.store(members, vectors)
                except ComputationError as error:
                    self.go_on_after(error, flow, write)
        engine.counter.add(seconds=time.perf_counter() - start)
        return reader.summary

    def unmade(
        self, parts: Iterable[Part], records: Mapping[int, Mapping[str, Any]]
    ) -> Iterator[Window]:
        """The rows of this worker's parts without a record; a part without rows is one window."""
        for part in parts:
            if not self.parts.mine(part.number):
                continue
            if part.number in records:
                check_unchanged(part, records[part.number])
                self.report(part.count, self.request.engine.stats, self.source.fraction())
                continue
            part.expect(self.request.engine.width)
            texts, extra = [row.text for row in part.rows], len(self.request.prefix)
            for first, some in text_windows(texts, extra) if texts else [(0, [])]:
                yield Window(part, list(range(first, first + len(some))), list(some))

    def tokenised(self, window: Window) -> Tokenised:
        """The window with ids in the place of texts, which are kept only if they are written."""
        found = tokenised(window, self.request)
        if not self.output.with_text:
            for place in window.places:
                window.part.forget_text(place)
        return found

    def vectors(
        self, windows: Iterable[list[np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts, their vectors) as the engine has them."""
        engine, skipped = self.request.engine, np.array(self.request.skipped, np.int32)
        return engine.run(engine.vectors, windows, None, skipped)

    def go_on_after(
        self, error: ComputationError, flow: Flow, write: Callable[[Part], None]
    ) -> None:
        """Reject the row whose vector failed, and compute the rows of the abandoned batches again.

        One by one, for others among them may fail too.
        """
        part, place = flow.place(error.text)
        self.bad_rows.refused(part, place, error)
        if part.missing == 0:
            write(part)
        for part, places, ids in flow.drained():
            self.one_by_one(part, places, ids)
            if part.missing == 0:
                write(part)

    def one_by_one(self, part: Part, places: Sequence[int], ids: list[np.ndarray]) -> None:
        """Compute rows some of which may have no vector; which these are is found by halves."""

        def vectors_of(some: Sequence[int]) -> np.ndarray:
            found = np.zeros((len(some), self.request.engine.width), np.float32)
            for members, vectors in self.vectors([[ids[i] for i in some]]):
                found[members] = vectors
            return found

        for place, one in zip(places, sifted(vectors_of, range(len(ids))), strict=True):
            if isinstance(one, JaxbertError):
                self.bad_rows.refused(part, place, one)
            else:
                part.store(np.array([place]), one[None])

    def write(self, part: Part) -> None:
        """Finish the vectors of a part, and write it."""
        columns = self.output.columns(part)
        rejected = part.rejected()
        self.parts.finish(
            part.number,
            lambda file: self.output.write(file, columns),
            {
                "rows": len(columns.ids),
                "rejected": len(rejected),
                "without_id": sum(part.rows[i].id is None for i in part.kept),
                "input_sha256": part.sha256,
            },
            rejected,
        )
        self.request.engine.counter.add(texts=len(columns.ids))
        self.report(part.count, self.request.engine.stats, self.source.fraction())
