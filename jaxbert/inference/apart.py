"""Long texts in a process of their own, of lower priority: the short ones keep their cores.

In one process all programs share XLA's threads, and each part of a long text's product, once begun,
holds up the short texts. The operating system interrupts another process instead.
"""

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import ProcessEndedError
from jaxbert.inference.batches import Batch, count
from jaxbert.inference.child import Job, Start
from jaxbert.inference.computers import Computer, Rows
from jaxbert.inference.engine import Engine
from jaxbert.process.backend import option

log = logging.getLogger(__name__)

# JAX's options that decide about the numbers: on what, how, and with which compiled programs.
OPTIONS = (
    "jax_platforms",
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_compilation_cache_dir",
)
# Seconds for a process to end by itself after its input has ended.
GRACE = 10.0


@dataclass(frozen=True)
class Apart:
    """A process for long texts, on a CPU; it starts with the first of them.

    It holds the weights and JAX a second time. nice is what its priority is lower by, from 0 to 19:
    it gets all of a core that nobody wants, and of one that the short texts want a tenth with 10,
    a sixtieth with 19. notes/14-queue.md has what that does.
    """

    nice: int = 19

    def __post_init__(self) -> None:
        """Raise InputError for a nice that no process can have."""
        integer(self.nice, "nice", 0, 19)


class Child:
    """The process, which has the model and computes batch after batch."""

    def __init__(self, model: Any, apart: Apart) -> None:
        """Start it and wait until it is ready. Raises what hinders that."""
        start = Start(apart.nice, {name: option(name) for name in OPTIONS})
        found = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jaxbert.inference.child"],  # -P: from these folders alone
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": found},
            # Ctrl-C is for the parent, which ends it; a session of its own would be another one
            # for Linux's autogroups, and then nice would mean nothing.
            process_group=0,
        )
        try:
            self.send(start)
            self.send(model)
            self.receive()
        except BaseException:
            self.end()
            raise

    def send(self, message: Any) -> None:
        """Send it an object. Raises ProcessEndedError where it has ended."""
        assert self.process.stdin is not None, "opened above"
        try:
            pickle.dump(message, self.process.stdin, pickle.HIGHEST_PROTOCOL)
            self.process.stdin.flush()
        except OSError as error:
            raise self.ended() from error

    def receive(self) -> Any:
        """What it answers; an error that it answers is raised, as is ProcessEndedError."""
        assert self.process.stdout is not None, "opened above"
        try:
            answer = pickle.load(self.process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self.ended() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ended(self) -> ProcessEndedError:
        """The error of a process that is no longer there."""
        self.end()
        return ProcessEndedError(
            f"the process for long texts has ended (exit code {self.process.returncode}; -9 is "
            "often for want of memory), and this text was not computed; the next one starts it anew"
        )

    def end(self) -> None:
        """Let it end, and if it does not, end it."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None, "opened above"
            with suppress(OSError):  # what was not flushed has no reader
                stream.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Pending:
    """The result of a batch that the process computes."""

    computer: "ApartComputer"
    child: Child

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(results [m, ...] of the texts, which of them [m] are right), once they are there."""
        rows, right, compilations = self.computer.answer(self.child)
        self.computer.compiled += compilations
        return rows, right


class ApartComputer:
    """A computer whose batches another process computes; this one where that cannot start."""

    ahead = 1

    def __init__(self, here: Computer, model: Any, apart: Apart) -> None:
        """`here` is the model's computer in this process; nothing starts yet."""
        self.here, self.model, self.apart = here, model, apart
        self.child: Child | None = None
        self.starts, self.compiled = True, 0

    @property
    def engine(self) -> Engine[Any]:
        """That of the model in this process."""
        return self.here.engine

    @property
    def compilations(self) -> int:
        """How many shapes the process and the model in this one have compiled, or read."""
        return self.here.compilations + self.compiled

    def begin(
        self, kind: str, batch: Batch, tokens: Sequence[np.ndarray], skipped: Sequence[int]
    ) -> Rows:
        """A batch of a plan of all these texts on its way; arguments as `Engine.dispatch`."""
        self.engine.check_unchanged()  # before the process gets the weights
        child = self.running()
        if child is None:
            return self.here.begin(kind, batch, tokens, skipped)
        own = [tokens[i] for i in batch.members]
        self.engine.admit([batch], sum(map(count, own)))
        moved = batch._replace(members=np.arange(len(own)))
        self.sent(child, Job(kind, moved, own, [skipped[i] for i in batch.members]))
        return Pending(self, child)

    def running(self) -> Child | None:
        """The process, started if it is not there; None where it cannot be."""
        if self.child is not None and self.child.process.poll() is not None:
            self.child.end()  # it has died while nothing was asked of it
            self.child = None
        if self.child is None and self.starts:
            try:
                self.child = Child(self.model, self.apart)
            except Exception as error:
                self.starts = False
                log.warning("long texts have no process of their own: %s", error)
        return self.child

    def sent(self, child: Child, job: Job) -> None:
        """Send it a batch; where it has ended the next batch starts another one."""
        try:
            child.send(job)
        except ProcessEndedError:
            self.child = None
            raise

    def answer(self, child: Child) -> Any:
        """What it answers; where it has ended the next batch starts another one."""
        try:
            return child.receive()
        except ProcessEndedError:
            self.child = None
            raise

    def end(self) -> None:
        """End the process, and start no other one."""
        self.starts = False
        if self.child is not None:
            self.child.end()
            self.child = None
