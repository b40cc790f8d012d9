"""From windows of texts to token ids, to the engine, and with the vectors back into parts."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from jaxbert.corpus.part import Part
from jaxbert.corpus.sifting import sifted
from jaxbert.errors import JaxbertError
from jaxbert.inference.request import Request

# Parts that may wait to be written; then the device waits.
UNWRITTEN = 2


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


def tokenised(window: Window, request: Request) -> Tokenised:
    """The window with ids in the place of texts; what the engine would refuse is refused here."""
    found = sifted(lambda texts: token_ids(request, texts), window.texts)
    refused, places, ids = {}, [], []
    for place, one in zip(window.places, found, strict=True):
        if isinstance(one, JaxbertError):
            refused[place] = one
        else:
            places.append(place)
            ids.append(one)
    return Tokenised(window.part, np.array(places, np.int64), ids, refused)


def token_ids(request: Request, texts: Sequence[str]) -> list[np.ndarray]:
    """The ids of texts; an error if the engine cannot run one of them."""
    engine = request.engine
    ids = request.tokenizer([request.prefix + text for text in texts], request.long.most)
    engine.check_tokens(ids)
    for count in set(map(len, ids)):
        for batch in engine.planner.plan([count], None):
            engine.check_memory(batch.rows, batch.length)
    return ids


class Writer:
    """Writes parts in a thread, a few of them waiting at most; an error is raised to the caller."""

    def __init__(self, write: Callable[[Part], None]) -> None:
        """write is called in the thread, with one part at a time."""
        self.write = write
        self.pool = ThreadPoolExecutor(1)
        self.waiting: deque[Future[None]] = deque()

    def __call__(self, part: Part) -> None:
        """Write a part, when those before it are written."""
        self.waiting.append(self.pool.submit(self.write, part))
        while len(self.waiting) > UNWRITTEN:
            self.waiting.popleft().result()

    def __enter__(self) -> Self:
        """The writer, whose thread starts with the first part."""
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
        """Begin with nothing at the engine."""
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

    def store(self, members: np.ndarray, vectors: np.ndarray) -> None:
        """Put vectors in their places; they come in the order of the windows."""
        while len(self.coming) > 1 and self.coming[1][0] <= members[0]:
            self.coming.popleft()
        first, window, taken = self.coming[0]
        taken[members - first] = True
        window.part.store(window.places[members - first], vectors)
        if window.part.missing == 0:
            self.write(window.part)

    def place(self, text: int) -> tuple[Part, int]:
        """The part and the row in it that the engine has as this text; it counts as taken."""
        first, window, taken = [own for own in self.coming if own[0] <= text][-1]
        taken[text - first] = True
        return window.part, int(window.places[text - first])

    def drained(self) -> Iterator[tuple[Part, list[int], list[np.ndarray]]]:
        """What the engine had and gave no vectors of: (part, rows in it, their ids)."""
        left = list(self.coming)
        self.begin()
        for _, window, taken in left:
            rest = np.flatnonzero(~taken)
            if rest.size:
                places = [int(window.places[i]) for i in rest]
                yield window.part, places, [window.ids[i] for i in rest]
