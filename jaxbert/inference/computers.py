"""What computes the batches of a lane: an engine on one device, in this process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from jaxbert.inference.batches import Batch
from jaxbert.inference.data_parallel import DataParallel
from jaxbert.inference.dispatched import Dispatched
from jaxbert.inference.engine import Engine
from jaxbert.inference.programs import AnyProgram
from jaxbert.process.backend import backend


class Rows(Protocol):
    """The interface of the result of a batch on its way."""

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(results [m, ...] of the texts, which of them [m] are right), once they are there."""


class AnyComputer(Protocol):
    """The interface of Computer and Apart."""

    @property
    def engine(self) -> Engine[Any]:
        """Whose planner, limits and counter are those of the batches."""

    @property
    def ahead(self) -> int:
        """How many batches are begun before the first is waited for."""

    @property
    def compilations(self) -> int:
        """How many shapes it has compiled, or read from the cache, so far."""

    def begin(
        self, kind: str, batch: Batch, tokens: Sequence[np.ndarray], skipped: Sequence[int]
    ) -> Rows:
        """A batch of a plan of all these texts on its way; arguments as `Engine.dispatch`."""

    def end(self) -> None:
        """Give back what it holds; nothing is computed any longer."""


@dataclass(frozen=True, eq=False)
class Computer:
    """An engine on one device, and its programs by the kinds of results that they give."""

    engine: Engine[Any]
    programs: Mapping[str, AnyProgram]
    ahead: int

    @property
    def compilations(self) -> int:
        """How many shapes its engine has compiled, or read from the cache."""
        return self.engine.compilations

    def begin(
        self, kind: str, batch: Batch, tokens: Sequence[np.ndarray], skipped: Sequence[int]
    ) -> Dispatched:
        """A batch of a plan of all these texts on its way; arguments as `Engine.dispatch`."""
        program = self.programs[kind]
        pooled = program is self.engine.vectors
        return self.engine.dispatch(program, batch, tokens, skipped if pooled else None)

    def end(self) -> None:
        """Nothing, for the engine belongs to its model."""


def computers_of(engine: Engine[Any], programs: Callable[[Engine[Any]], Any]) -> list[Computer]:
    """A computer for each device of an engine; programs gives those of an engine by kind.

    On a CPU JAX computes one batch after the other in its thread, where a second one would only
    wait; elsewhere the next batch is sent while one runs.
    """
    engines = [engine]
    if isinstance(engine.devices, DataParallel):
        engines = [engine.on(device) for device in engine.given_devices or ()]
    on_cpu = engine.kind.name == "jax" and backend() == "cpu"
    return [Computer(each, programs(each), 1 if on_cpu else each.devices.ahead) for each in engines]
