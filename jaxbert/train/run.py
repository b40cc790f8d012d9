"""Step after step, with a record of each: a run that goes on, after any end, in the same bits.

A batch and its key depend on the number of the step alone, so the state is all there is to save.
"""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import JaxbertError
from jaxbert.process import interrupts
from jaxbert.train.folder import RunFolder
from jaxbert.train.step import State, Step

# Rows that an error names.
NAMED = 10


class LossError(JaxbertError, ArithmeticError):
    """A loss or gradient that is not finite, at `step` (from 1), of the data's rows `rows`."""

    def __init__(self, step: int, rows: np.ndarray, what: str, kept: str) -> None:
        """what is not finite; kept says where the state before the step is."""
        some = ", ".join(map(str, rows[:NAMED])) + (", ..." if len(rows) > NAMED else "")
        super().__init__(
            f"{what} at step {step}, of the {len(rows)} rows {some} (from 0); the state before it "
            f"is kept{kept}: lower the learning rate, or look at these rows"
        )
        self.step, self.rows = step, rows


class Batched(Protocol):
    """Batches as a function of the step, counted from 0."""

    def __call__(self, step: int) -> Mapping[str, np.ndarray]:
        """The arrays of the step's batch."""

    def rows_of(self, step: int) -> tuple[np.ndarray, int]:
        """The rows of the step's batch, and their length."""

    def tokens(self, step: int) -> int:
        """How many tokens the step's batch has."""


@dataclass(frozen=True)
class Limits:
    """When a run stops, and how often its state is written."""

    steps: int
    every: int = 500  # steps between checkpoints
    seconds: float = math.inf  # of this sitting; what is left is for the next one


class Run:
    """An iterator of records, one for each step; `state` is the one after the last record.

    A record has step (from 1), loss, the metrics of the objective, lr, tokens (of the step, padding
    not counted) and seconds (of the whole run). With a folder, open in a `with` block, records are
    kept in metrics.jsonl and states as checkpoints: a run begun anew goes on after the last one.
    """

    def __init__(
        self,
        state: State,
        step: Step,
        batches: Batched,
        limits: Limits,
        folder: RunFolder | None = None,
    ) -> None:
        """Take the state of the folder's last checkpoint where there is one, else `state`."""
        integer(limits.steps, "steps", 1)
        integer(limits.every, "checkpoint_every", 1)
        self.step, self.batches, self.limits, self.folder = step, batches, limits, folder
        self.state = step.placed(state)
        self.before = 0.0  # seconds of earlier sittings
        self.saved: int | None = None  # the step of the last checkpoint
        if folder is not None:
            found = folder.checkpoints.latest(self.state)
            if found is not None:
                self.state, self.saved = found, int(found.step)
            last = folder.keep(self.done)
            self.before = float(last["seconds"]) if last is not None else 0.0

    @property
    def done(self) -> int:
        """How many steps the state has."""
        return int(self.state.step)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done >= self.limits.steps

    def save(self) -> None:
        """Write a checkpoint, unless the last one is this state."""
        if self.folder is not None and self.saved != self.done:
            self.folder.save(self.state)
            self.saved = self.done

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The records of the steps that are left.

        Raises LossError where a loss or a gradient is not finite, and Interrupted for a signal that
        jaxbert's command has caught; in both cases the state is kept.
        """
        begun, done = time.monotonic(), self.done
        arrays = None if self.finished else self.batches(done)
        while arrays is not None:
            self.state, found = self.step(self.state, arrays)
            # While the device computes.
            arrays = self.batches(done + 1) if done + 1 < self.limits.steps else None
            metrics = {name: float(value) for name, value in found.items()}
            self.check(done, metrics)
            seconds = time.monotonic() - begun
            record = self.record(done, metrics, self.before + seconds)
            done += 1
            if self.folder is not None:
                self.folder.add(record)
            if arrays is None or done % self.limits.every == 0:
                self.save()
            yield record
            if interrupts.received() is not None or seconds > self.limits.seconds:
                self.save()
                interrupts.check()
                return

    def check(self, done: int, metrics: Mapping[str, float]) -> None:
        """Raise LossError where the step has not changed the state, for it must not."""
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(metrics[name]):
                self.save()
                where = "" if self.folder is None else f" in {self.folder.path}"
                what = f"{name.replace('_', ' ')} is {metrics[name]}"
                raise LossError(done + 1, self.batches.rows_of(done)[0], what, where)

    def record(self, done: int, metrics: Mapping[str, float], seconds: float) -> dict[str, Any]:
        """What is told of a step; a metric that is no number is null."""
        told = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        first = {name: told.pop(name) for name in ("loss", "lr")}
        return {
            "step": done + 1,
            **first,
            **told,
            "tokens": self.batches.tokens(done),
            "seconds": round(seconds, 3),
        }
