"""Lanes: texts in the order of their turns, and threads that compute the batch that is due.

Before every batch all that waits is planned, and the batch that holds the text whose turn it is
runs (`due`). While a thread is idle nothing waits.
"""

import logging
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import Condition, Thread
from typing import NamedTuple

import numpy as np

from jaxbert.errors import JaxbertError, QueueClosedError
from jaxbert.inference.batches import Batch
from jaxbert.inference.computers import AnyComputer, Rows
from jaxbert.inference.dispatched import wrong_row
from jaxbert.inference.news import News, Teller
from jaxbert.inference.waiting import Asked, Listener, Load, Promise, Speed, Waiting

log = logging.getLogger(__name__)

# Texts that are planned together: a plan of so many takes 0.8 ms, and fills any batch of a CPU.
PLANNED = 512
# Tokens a second before any is measured, which only says who is first and what is too much.
FIRST_GUESS = 3000.0
# What JAX says in the message of an error where memory was too small for one batch.
NO_MEMORY = "RESOURCE_EXHAUSTED"


class Chosen(NamedTuple):
    """The batch that is due, of a plan of these texts."""

    batch: Batch
    planned: list[Waiting]

    @property
    def texts(self) -> list[Waiting]:
        """Those of the batch, in its order."""
        return [self.planned[i] for i in self.batch.members]

    @property
    def tokens(self) -> int:
        """How many tokens these texts have."""
        return sum(text.count for text in self.texts)


def due(plan: Sequence[Chosen]) -> Chosen:
    """The batch with the text whose turn it is, the first of those planned.

    If another one has more texts, and more than twice the tokens, that one runs first, once for a
    text: meanwhile the smaller one may grow. A long text alone passes nobody.
    """
    (own,) = (chosen for chosen in plan if (chosen.batch.members == 0).any())
    first, texts = own.planned[0], len(own.batch.members)
    fuller = [c for c in plan if len(c.batch.members) > texts and c.tokens > 2 * own.tokens]
    if first.passed or not fuller:
        return own
    first.passed = True
    return max(fuller, key=lambda chosen: chosen.tokens)


class Begun(NamedTuple):
    """A batch on its way."""

    texts: list[Waiting]
    tokens: int
    batch: Batch
    result: Rows
    since: float
    compilations: int  # of the computer before it


class Lane:
    """Texts that wait for the same threads, one thread for each computer."""

    def __init__(
        self, name: str, computers: Sequence[AnyComputer], tell: Teller, listener: Listener
    ) -> None:
        """The threads start at once; they end after `end`, when nothing waits."""
        self.tell, self.listener, self.speed = tell, listener, Speed(FIRST_GUESS)
        self.computers, self.planner = computers, computers[0].engine.planner
        self.waiting: list[Waiting] = []
        self.tokens = 0  # of all that waits
        self.promises: set[Promise] = set()  # of what is taken and not tokenised yet
        self.changed = Condition()
        self.ended = False
        self.fatal: BaseException | None = None  # what a thread has died of
        self.threads = [
            Thread(target=self.work, args=(computer,), name=f"jaxbert-{name}-{i}", daemon=True)
            for i, computer in enumerate(computers)
        ]
        for thread in self.threads:
            thread.start()

    # --- called by requests, in the threads of their loops ---

    def put(self, texts: Sequence[Waiting]) -> None:
        """Let the texts of one request wait. Raises QueueClosedError where nothing computes."""
        tokens = sum(text.count for text in texts)
        with self.changed:
            if self.fatal is not None:
                raise self.gone()
            turn = texts[0].asked.arrived + self.seconds(tokens)
            for text in texts:
                text.turn = turn
            first = bisect_right(self.waiting, turn, key=lambda text: text.turn)
            self.waiting[first:first] = texts
            self.tokens += tokens
            self.changed.notify_all()

    def drop(self, asked: Asked) -> int:
        """Remove the texts of a request that wait; how many there were."""
        with self.changed:
            dropped = [text for text in self.waiting if text.asked is asked]
            self.remove(dropped)
        return len(dropped)

    @contextmanager
    def promised(self, tokens: int) -> Iterator[None]:
        """A context in which so many tokens, about, count as waiting."""
        promise = Promise(tokens, self.turn_of(tokens))
        with self.changed:
            self.promises.add(promise)
        try:
            yield
        finally:
            with self.changed:
                self.promises.remove(promise)

    def load(self) -> Load:
        """What waits, with what is about to."""
        with self.changed:
            tokens = self.tokens + sum(promise.tokens for promise in self.promises)
            return Load(len(self.waiting), tokens, self.seconds(tokens))

    def before(self, tokens: int) -> float:
        """The seconds of what has its turn before a request of so many tokens that comes now."""
        turn = self.turn_of(tokens)
        with self.changed:
            first = bisect_right(self.waiting, turn, key=lambda text: text.turn)
            waits = sum(text.count for text in self.waiting[:first])
            return self.seconds(waits + sum(p.tokens for p in self.promises if p.turn <= turn))

    def turn_of(self, tokens: int) -> float:
        """The turn of a request of so many tokens that comes now."""
        return time.monotonic() + self.seconds(tokens)

    def seconds(self, tokens: float) -> float:
        """The seconds that all threads together take for so many tokens."""
        return self.speed(tokens) / len(self.threads)

    def end(self) -> None:
        """Let the threads end when all that waits is done."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self.threads:
            thread.join()
        for computer in self.computers:
            computer.end()

    # --- the threads ---

    def work(self, computer: AnyComputer) -> None:
        """Compute batch after batch; what goes wrong with the machine ends the lane."""
        begun: deque[Begun] = deque()
        chosen: Chosen | None = None
        try:
            while True:
                chosen = self.take(wait=not begun)
                if chosen is None and not begun:
                    return
                if chosen is not None:
                    begun.extend(self.begin(computer, chosen))
                if begun and (chosen is None or len(begun) >= computer.ahead):
                    self.finish(computer, begun)
        except BaseException as error:
            own = [] if chosen is None else chosen.texts
            self.die(error, own + [text for batch in begun for text in batch.texts])

    def take(self, wait: bool) -> Chosen | None:
        """The batch that is due, no longer waiting; None where there is none, or none will be."""
        with self.changed:
            while wait and not self.waiting and not self.ended:
                self.changed.wait()
            if not self.waiting:
                return None
            kind = self.waiting[0].kind
            planned = list(islice((t for t in self.waiting if t.kind == kind), PLANNED))
            plan = self.planner.plan([text.count for text in planned], None)
            chosen = due([Chosen(batch, planned) for batch in plan])
            self.remove(chosen.texts)
        now = time.monotonic()
        for text in chosen.texts:
            self.listener.waited(now - text.asked.arrived)
        return chosen

    def remove(self, texts: Sequence[Waiting]) -> None:
        """Take texts that wait out of the list, under the lock."""
        for text in texts:
            text.taken = True
        self.waiting = [text for text in self.waiting if not text.taken]
        self.tokens -= sum(text.count for text in texts)

    def begin(self, computer: AnyComputer, chosen: Chosen) -> list[Begun]:
        """The batch on its way; none where it cannot run, and then its requests fail."""
        since, before = time.monotonic(), computer.compilations
        tokens = [text.tokens for text in chosen.planned]
        skipped = [text.skipped for text in chosen.planned]
        try:
            result = computer.begin(chosen.texts[0].kind, chosen.batch, tokens, skipped)
        except Exception as error:
            self.refuse(chosen.texts, error)
            return []
        return [Begun(chosen.texts, chosen.tokens, chosen.batch, result, since, before)]

    def finish(self, computer: AnyComputer, on_way: deque[Begun]) -> None:
        """Wait for the first batch on its way and tell its requests; then it is none of those."""
        begun = on_way[0]
        try:
            rows, right = begun.result.rows()
        except Exception as error:
            self.refuse(begun.texts, error)
            on_way.popleft()
            return
        now, news = time.monotonic(), News()
        for text, row, good in zip(begun.texts, rows, right, strict=True):
            if text.asked.over:
                continue
            if good:
                put_row(text, row)
                news.done[text.asked] += 1
            else:
                news.failed.setdefault(text.asked, wrong_row(text.place, row))
        self.tell(news)
        on_way.popleft()
        self.measure(computer, begun, now)
        if on_way:  # the next one has the device to itself from now on
            on_way[0] = on_way[0]._replace(since=now)

    def measure(self, computer: AnyComputer, begun: Begun, now: float) -> None:
        """Count the batch; one that had to be compiled says nothing of the speed."""
        batch, seconds = begun.batch, now - begun.since
        tokens, slots = begun.tokens, batch.rows * batch.length
        if computer.compilations == begun.compilations:
            with self.changed:
                self.speed.measured(tokens, seconds)
        computer.engine.counter.add(texts=len(begun.texts), seconds=seconds)
        self.listener.batch(batch.length, len(begun.texts), tokens, slots, seconds)

    def refuse(self, texts: Sequence[Waiting], error: Exception) -> None:
        """Fail the requests of a batch that could not run; raises what is no fault of theirs."""
        if not isinstance(error, JaxbertError) and NO_MEMORY not in str(error):
            raise error
        log.warning("a batch of %d texts failed: %s", len(texts), error)
        self.tell(News.of_failure(texts, error))

    def die(self, error: BaseException, begun: Sequence[Waiting]) -> None:
        """Fail all that waits and all that was begun, and refuse what comes."""
        log.error("a thread that computes has died", exc_info=error)
        with self.changed:
            self.fatal, self.ended = error, True
            left = list(self.waiting)
            self.remove(left)
            self.changed.notify_all()
        self.tell(News.of_failure([*begun, *left], self.gone()))

    def gone(self) -> QueueClosedError:
        """The error of a request that nothing computes any longer."""
        kind = type(self.fatal).__name__
        error = QueueClosedError(
            f"the thread that computes has died ({kind}: {self.fatal}); restart the process"
        )
        error.__cause__ = self.fatal
        return error


def put_row(text: Waiting, row: np.ndarray) -> None:
    """Put the result of a text in its place; of states [t, d], without those of other tokens."""
    text.asked.rows[text.place] = row if row.ndim == 1 else row[: text.count].copy()
