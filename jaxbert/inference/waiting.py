"""What waits in a queue: requests, their texts, and what they are worth in seconds."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from jaxbert.inference.batches import count

log = logging.getLogger(__name__)


class Listener:
    """What a queue tells of its work; these methods do nothing, for those who want a part.

    They are called in the threads that compute and in those of event loops, so they must be quick
    and safe in threads.
    """

    def batch(self, length: int, texts: int, tokens: int, slots: int, seconds: float) -> None:
        """A batch of rows of this length has been computed; slots are the tokens it had room for.

        seconds are those that it took, compilation included.
        """

    def waited(self, seconds: float) -> None:
        """A text has waited so long when its batch begins."""

    def cancelled(self, texts: int) -> None:
        """Texts were dropped before they ran, since nobody waits for them any longer."""

    def refused(self, reason: str) -> None:
        """A request was refused, or dropped: reason is full, closed or timeout."""


@contextmanager
def logged() -> Iterator[None]:
    """A context whose exceptions are logged and end there."""
    try:
        yield
    except Exception:
        log.exception("the listener of a queue has failed; the queue goes on")


class Careful(Listener):
    """Another listener, whose failures are logged: none may leave a request without an answer."""

    def __init__(self, own: Listener) -> None:
        """Tell `own` all that this one is told."""
        self.own = own

    def batch(self, length: int, texts: int, tokens: int, slots: int, seconds: float) -> None:
        """Tell it of a batch."""
        with logged():
            self.own.batch(length, texts, tokens, slots, seconds)

    def waited(self, seconds: float) -> None:
        """Tell it how long a text has waited."""
        with logged():
            self.own.waited(seconds)

    def cancelled(self, texts: int) -> None:
        """Tell it of texts that were dropped."""
        with logged():
            self.own.cancelled(texts)

    def refused(self, reason: str) -> None:
        """Tell it of a request that was refused or dropped."""
        with logged():
            self.own.refused(reason)


class Load(NamedTuple):
    """What waits in a queue, and the seconds that it takes at the measured speed."""

    texts: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Answer:
    """The rows of a request's texts, in their order, and how many tokens each text has."""

    rows: Any  # [n, d] float32 of vectors, [n] of scores, a list of [t, d] of states
    tokens: np.ndarray  # [n] int32: those computed, special ones included
    # [n] int32: those before the text was cut; of a text beyond 2048 tokens and twice the maximum
    # at least so many. More than `tokens` always says that it was cut.
    uncut: np.ndarray


class Asked:
    """One request: where its rows go, and the future that is done when all are there.

    Its future and what is left are touched by its event loop alone.
    """

    def __init__(self, texts: int, rows: Any) -> None:
        """rows is an array or a list with an entry for each text, which is filled."""
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.arrived = time.monotonic()
        self.rows, self.left, self.over = rows, texts, not texts
        if not texts:
            self.future.set_result(None)

    def done(self, texts: int) -> None:
        """So many more rows are there."""
        self.left -= texts
        if not self.left:
            self.end()
            if not self.future.done():
                self.future.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The request fails; what of it waits is dropped, what runs is not heeded."""
        self.end()
        if not self.future.done():
            self.future.set_exception(error)

    def end(self) -> None:
        """Nobody waits for its rows any longer."""
        self.over = True


@dataclass(eq=False)
class Waiting:
    """A text that waits, and whose turn it is when none has an earlier one."""

    tokens: np.ndarray  # ids [t], or ids and types [2, t]
    kind: str  # of result: the name of a program
    skipped: int  # tokens at its start that are not pooled
    asked: Asked
    place: int  # of its row
    turn: float = 0.0
    taken: bool = False
    passed: bool = False  # in its turn a larger batch ran
    count: int = field(init=False)  # of its tokens

    def __post_init__(self) -> None:
        """Count its tokens once, for all plans and estimates."""
        self.count = count(self.tokens)


@dataclass(eq=False)
class Promise:
    """Tokens, about, that will wait when they are made, and whose turn it will be then."""

    tokens: int
    turn: float


@dataclass
class Speed:
    """Tokens a second, of the last batches more than of earlier ones."""

    tokens: float
    seconds: float = 1.0
    kept: float = 0.9  # share of what was measured that is left after one more batch
    batches: int = 0  # that were measured

    def __call__(self, tokens: float) -> float:
        """The seconds that so many tokens take."""
        return tokens * self.seconds / self.tokens

    def measured(self, tokens: int, seconds: float) -> None:
        """A batch of so many tokens took so long."""
        self.tokens = self.kept * self.tokens + tokens
        self.seconds = self.kept * self.seconds + seconds
        self.batches += 1

    @property
    def known(self) -> bool:
        """Whether it is more than a guess: the first number counts less than a tenth by now."""
        return self.kept**self.batches < 0.1
