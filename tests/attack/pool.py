"""Processes that judge folders one by one; each may die or hang, and is replaced."""

import os
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.attack.folders import Base
from tests.attack.judge import Judged
from tests.attack.spoil import Drawn, Spoiled

# Seconds after which a folder counts as hanging, and bytes that a process may take.
PATIENCE, ROOM = 20.0, 8 * 2**30
# Seconds that a process may take to start beside that.
START = 100.0
# Folders after which a process is replaced, for JAX keeps a little of every model.
LIFE = 2500

NOTHING = Drawn("", "", Spoiled("", frozenset()), Path())
FAULTS = ("foreign", "abort", "hang", "message", "vector")


@dataclass(frozen=True)
class Result:
    """What was done to the folder of a number, and what became of it."""

    number: int
    drawn: Drawn
    judged: Judged

    @property
    def fault(self) -> str:
        """The kind of fault; empty where all is well."""
        outcome, allowed = self.judged.outcome, self.drawn.spoiled.allowed
        if outcome in FAULTS:
            return outcome
        if outcome in allowed:
            return ""
        return "needless" if outcome in ("refused", "late") and "same" in allowed else "silent"


def prepare(place: Path) -> None:
    """Settings of a process that judges: quiet, bounded, and with compiled programs kept."""
    os.environ |= {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "JAXBERT_CACHE": "off"}
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(place / "compiled")}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve(orders: Connection, bases: list[Base], seed: int, place: Path) -> None:
    """Judge the folders whose numbers come, until the other side hangs up."""
    prepare(place)
    errors = os.open(place / "stderr", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(errors, 2)  # the tokenizers library writes its panics there
    from tests.attack.groups import GROUPS
    from tests.attack.judge import judge, whole
    from tests.attack.spoil import draw

    before: dict[str, Any] = {base.name: whole(base.model) for base in bases}
    own = place / str(os.getpid())
    orders.send("ready")
    while True:
        try:
            number = orders.recv()
        except EOFError:
            break
        drawn = draw(GROUPS, bases, seed, number, own)
        orders.send(drawn)
        judged = judge(drawn.model, before[drawn.base], number)
        orders.send(judged)
    shutil.rmtree(own, ignore_errors=True)


class Worker:
    """A process, the number that it has, and how long it has had it."""

    def __init__(self, bases: list[Base], seed: int, place: Path) -> None:
        """Start the process; it says when it is ready."""
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, bases, seed, place), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.drawn, self.age = -1, NOTHING, 0
        self.idle, self.ended = False, False
        self.since = time.monotonic() + START

    def give(self, number: int) -> None:
        """Send it the next folder."""
        self.number, self.drawn, self.since = number, NOTHING, time.monotonic()
        self.idle = False
        self.age += 1
        self.pipe.send(number)

    def news(self, ready: bool) -> Judged | None:
        """What became of its folder, once that is known; ready: it has sent something."""
        if not ready:
            if self.idle or time.monotonic() - self.since < PATIENCE:
                return None
            self.end()
            return Judged("hang", f"no answer for {PATIENCE:.0f} s")
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.end()
            return Judged("abort", f"the process ended with {self.process.exitcode}")
        if isinstance(answer, Drawn):
            self.drawn = answer
            return None
        self.idle = True
        return answer if isinstance(answer, Judged) else None

    def end(self) -> None:
        """End it, at once if it does not end by itself."""
        self.pipe.close()
        self.process.join(5)
        self.process.kill()
        self.process.join()
        self.ended = True


def attack(
    bases: list[Base], seed: int, numbers: Iterable[int], workers: int, place: Path
) -> Iterator[Result]:
    """The results of the folders with these numbers, in the order in which they come."""
    todo = iter(numbers)
    alive = [Worker(bases, seed, place) for _ in range(workers)]
    while alive:
        ready = wait([worker.pipe for worker in alive], timeout=0.5)
        for worker in list(alive):
            judged = worker.news(worker.pipe in ready)
            if judged is not None:
                if worker.drawn is NOTHING:
                    raise SystemExit(
                        f"number {worker.number} could not be drawn; see --only, and {place}/stderr"
                    )
                yield Result(worker.number, worker.drawn, judged)
            if worker.idle and worker.age < LIFE:
                number = next(todo, None)
                if number is not None:
                    worker.give(number)
                    continue
                worker.end()
                alive.remove(worker)
            elif worker.idle or worker.ended:
                worker.end()
                alive[alive.index(worker)] = Worker(bases, seed, place)
