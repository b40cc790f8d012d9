"""The queue of one model: admission, tokenising, lanes, cancellation, closing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Condition
from typing import Any, Self, TypeVar

import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import (
    InputError,
    InputTypeError,
    QueueClosedError,
    QueueFullError,
    QueueTimeoutError,
    shown,
)
from jaxbert.inference.apart import Apart, ApartComputer
from jaxbert.inference.batches import count
from jaxbert.inference.computers import AnyComputer, Computer
from jaxbert.inference.data_parallel import DataParallel
from jaxbert.inference.lanes import PLANNED, Lane
from jaxbert.inference.news import Teller
from jaxbert.inference.queue_tokens import INLINE
from jaxbert.inference.waiting import Asked, Careful, Listener, Load, Waiting
from jaxbert.process.backend import backend
from jaxbert.text.tokenizer import Tokenizer

Result = TypeVar("Result")

# Threads that tokenise; the library's own lock lets one at a time, for a window of texts.
TOKENISING = 4
# The most seconds that a limit may be: some thirty years.
LONGEST = 1e9
# Seconds after which a request that was refused may try again, at least.
SOON = 0.1


class ModelQueue:
    """Requests for the rows of one model; they are computed by lanes of threads."""

    def __init__(
        self,
        computers: Sequence[Computer],
        *,
        max_wait: float,
        timeout: float,
        long: int,
        listener: Listener | None,
        apart: AnyComputer | None = None,
    ) -> None:
        """Start the threads: one lane, or on a CPU a second one for texts of over `long` tokens.

        A CPU divides its cores among threads, so that a long text does not hold up short ones;
        `apart` computes them in the place of these computers, if there is one. An accelerator
        computes one batch after the other, whoever sends it. After a warm-up, what it has not
        compiled goes with the long texts, for to compile takes seconds.
        """
        self.max_wait, self.timeout = seconds(max_wait, "max_wait"), seconds(timeout, "timeout")
        self.long = integer(long, "long", 1)
        self.warm: dict[str, int] = {}  # kind -> tokens up to which its shapes are compiled
        self.listener = Careful(Listener() if listener is None else checked_listener(listener))
        self.computers = computers
        self.elsewhere = apart if backend() == "cpu" else None
        by_lane: dict[str, Sequence[AnyComputer]] = {"texts": computers}
        if backend() == "cpu":
            by_lane = {
                "short": computers,
                "long": [self.elsewhere] if self.elsewhere else computers,
            }
        self.tell = Teller()
        self.lanes = [Lane(name, own, self.tell, self.listener) for name, own in by_lane.items()]
        self.pool = ThreadPoolExecutor(TOKENISING, "jaxbert-tokenise")
        self.open, self.changed = 0, Condition()  # requests that are not answered yet
        self.closed = False

    # --- one request ---

    def lane(self, kind: str, tokens: int) -> Lane:
        """The lane of a text of so many tokens, for a result of this kind."""
        warm = self.warm.get(kind, 0) if self.warm else self.long
        return self.lanes[-1] if tokens > min(self.long, warm) else self.lanes[0]

    def shares(self, kind: str, counts: Sequence[int]) -> list[tuple[Lane, int]]:
        """The lanes that texts of so many tokens wait in, each with the sum of theirs."""
        sums = Counter[Lane]()
        for tokens in counts:
            sums[self.lane(kind, tokens)] += tokens
        return list(sums.items())

    @contextmanager
    def admitted(self, kind: str, counts: Sequence[int]) -> Iterator[None]:
        """A context of a request of texts of so many tokens, about, which `close` waits for.

        Raises QueueClosedError, and QueueFullError where work for over max_wait seconds comes
        before it.
        """
        self.check_open()
        self.check_room(self.shares(kind, counts))
        with self.changed:
            self.open += 1
        try:
            yield
        finally:
            with self.changed:
                self.open -= 1
                self.changed.notify_all()

    def check_open(self) -> None:
        """Raise QueueClosedError for a request that comes after `stop`."""
        if self.closed:
            self.listener.refused("closed")
            raise QueueClosedError("the queue is closed; send the request to another one")

    def check_room(self, shares: Sequence[tuple[Lane, int]]) -> None:
        """Raise QueueFullError where work for more than max_wait seconds has its turn before."""
        # What waits in all is known at once; what comes before a request has to be added up.
        full = [(lane, own) for lane, own in shares if lane.load().seconds > self.max_wait]
        waits = max((lane.before(own) for lane, own in full), default=0.0)
        if waits > self.max_wait:
            self.listener.refused("full")
            raise QueueFullError(max(waits - self.max_wait, SOON), waits, self.max_wait)

    def check_work(self, shares: Sequence[tuple[Lane, int]]) -> None:
        """Raise InputError for a request that takes more than `timeout` seconds by itself."""
        for lane, tokens in shares:
            if lane.speed.known and lane.seconds(tokens) > self.timeout:
                raise InputError(
                    f"the request has {tokens} tokens, which take {lane.seconds(tokens):.0f} s "
                    f"here, and what has waited for {self.timeout:g} s is dropped (timeout); send "
                    "it as several requests, one after the other"
                )

    async def checked(self, tokenizer: Tokenizer, function: Callable[[], Result]) -> Result:
        """function(), which may read a prompt; in a thread where it would wait for others."""
        if not tokenizer.busy:
            return function()
        self.check_open()
        return await self.in_thread(function)

    async def tokenised(
        self,
        kind: str,
        counts: Sequence[int],
        characters: int,
        tokenizer: Tokenizer,
        function: Callable[[], Result],
    ) -> Result:
        """function(), at once where it reads few characters and need not wait, else in a thread."""
        if characters <= INLINE and not tokenizer.busy:
            return function()
        return await self.tokenised_in_thread(kind, counts, function)

    async def tokenised_in_thread(
        self, kind: str, counts: Sequence[int], function: Callable[[], Result]
    ) -> Result:
        """function(); meanwhile texts of so many tokens, about, count as waiting."""
        with ExitStack() as promises:
            for lane, tokens in self.shares(kind, counts):
                promises.enter_context(lane.promised(tokens))
            return await self.in_thread(function)

    async def in_thread(self, function: Callable[[], Result]) -> Result:
        """function() in a thread, while the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, function)

    async def computed(
        self, kind: str, tokens: Sequence[np.ndarray], rows: Any, skipped: int = 0
    ) -> None:
        """Fill rows with the results of the texts, which wait for their turn.

        If the caller is cancelled, those that have not begun never run. Raises what a batch of
        theirs failed with, QueueTimeoutError, InputError for work that takes longer than that, and
        QueueClosedError where nothing computes.
        """
        self.computers[0].engine.check_tokens(tokens)
        self.check_work(self.shares(kind, [count(ids) for ids in tokens]))
        asked = Asked(len(tokens), rows)
        texts = [Waiting(ids, kind, skipped, asked, i) for i, ids in enumerate(tokens)]
        waits: dict[Lane, list[Waiting]] = {}
        for text in texts:  # once for each, since a warm-up may end meanwhile
            waits.setdefault(self.lane(kind, text.count), []).append(text)
        timer = asked.loop.call_later(self.timeout, self.too_late, asked)
        try:
            for lane, own in waits.items():
                lane.put(own)
            await asked.future
        finally:
            timer.cancel()
            if asked.left:
                asked.end()
                if dropped := self.drop(asked):
                    self.listener.cancelled(dropped)

    def drop(self, asked: Asked) -> int:
        """Remove what waits of a request; how many texts that were."""
        return sum(lane.drop(asked) for lane in self.lanes)

    def too_late(self, asked: Asked) -> None:
        """Fail a request some of whose texts still wait, and drop these."""
        if dropped := self.drop(asked):
            self.listener.refused("timeout")
            self.listener.cancelled(dropped)
            asked.fail(
                QueueTimeoutError(
                    f"{dropped} texts waited for {self.timeout:g} s and were dropped; try again, "
                    "with fewer texts"
                )
            )

    # --- the whole queue ---

    def load(self) -> Load:
        """What waits now; its seconds are those of the lane that has most."""
        loads = [lane.load() for lane in self.lanes]
        texts, tokens = (sum(load[i] for load in loads) for i in (0, 1))
        return Load(int(texts), int(tokens), max(load.seconds for load in loads))

    @property
    def healthy(self) -> bool:
        """False once a thread that computes has died: what waited has failed, nothing is taken."""
        return all(lane.fatal is None for lane in self.lanes)

    @property
    def compilations(self) -> int:
        """How many shapes all devices have compiled, or read from the cache, so far."""
        counts = [computer.compilations for computer in self.computers]
        if self.elsewhere is not None:  # which counts those of the first one too
            counts[0] = self.elsewhere.compilations
        return sum(counts)

    async def prepared(self, kind: str, longest: int, typed: bool = False) -> int:
        """Compile all shapes of texts of up to `longest` tokens; how many were new."""
        shapes = self.computers[0].engine.planner.shapes(longest, PLANNED)

        def prepare(computer: Computer) -> int:
            return computer.engine.prepare(computer.programs[kind], shapes, typed)

        loop = asyncio.get_running_loop()
        jobs = [loop.run_in_executor(self.pool, prepare, each) for each in self.computers]
        new = sum(await asyncio.gather(*jobs))
        self.warm[kind] = max(longest, self.warm.get(kind, 0))
        return new

    def stop(self) -> None:
        """Take nothing more; what was accepted is still answered."""
        self.closed = True

    async def close(self) -> None:
        """Take nothing more, answer all that was accepted, and end the threads."""
        self.stop()
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """Wait until every request is answered, then end the threads."""
        with self.changed:
            self.changed.wait_for(lambda: not self.open)
        for lane in self.lanes:
            lane.end()
        for lane in self.lanes:
            lane.join()
        self.tell.end()
        self.pool.shutdown()

    async def __aenter__(self) -> Self:
        """The queue itself, which the context closes."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it, as `close` does."""
        await self.close()


def apart_of(apart: Any, here: Computer, model: Any) -> ApartComputer | None:
    """The computer of long texts that `apart` asks for; None: those of the short ones.

    With several devices it is None too, for a long text then keeps only one of them from the rest.
    Raises InputTypeError.
    """
    if apart is not None and not isinstance(apart, Apart):
        raise InputTypeError(f"apart is {shown(apart)}; pass Apart(), or None")
    if apart is None or isinstance(model.engine.devices, DataParallel):
        return None
    return ApartComputer(here, model, apart)


def seconds(value: Any, name: str) -> float:
    """The value as a positive number of seconds. Raises InputTypeError and InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise InputTypeError(f"{name} is {shown(value)}; pass a number of seconds")
    if not 0 < value <= LONGEST:
        raise InputError(f"{name} is {shown(value)}; it must be above 0 and at most {LONGEST:g}")
    return float(value)


def checked_listener(value: Any) -> Listener:
    """The value, which must have the methods of a Listener. Raises InputTypeError."""
    methods = [name for name in vars(Listener) if not name.startswith("_")]
    if isinstance(value, type) or not all(callable(getattr(value, m, None)) for m in methods):
        raise InputTypeError(f"listener is {shown(value)}; pass one with the methods of Listener")
    found: Listener = value
    return found
