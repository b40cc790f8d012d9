"""The parts of a run on their way: rows in, token ids to the engine, vectors back, to the disk."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from jaxbert.corpus.columns import Columns
from jaxbert.corpus.fields import BadRow, Row
from jaxbert.errors import JaxbertError

# Parts that may wait to be written; then the device waits.
UNWRITTEN = 2


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

    def columns(self, carry: Sequence[str], vectors: np.ndarray) -> Columns:
        """The rows that have vectors, column by column; a row without an id has its place as id."""
        kept = self.kept
        rows = [self.rows[i] for i in kept]
        return Columns(
            ids=[
                self.places[i] if row.id is None else row.id
                for i, row in zip(kept, rows, strict=True)
            ],
            texts=[row.text for row in rows],
            carried={name: [row.carried[i] for row in rows] for i, name in enumerate(carry)},
            vectors=vectors,
        )

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
