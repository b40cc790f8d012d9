"""Batches on a CPU: one on each core at once, or one after the other on all cores.

A small batch that is divided among cores waits for the slowest of them in every operation, so each
core gets a batch of its own and a program of one thread. Where that would leave cores idle, because
there are few batches or a text is long, all cores share a batch (notes/decisions.md).
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbert.inference.batches import Batch, BatchArrays
from jaxbert.inference.data_parallel import OneDevice
from jaxbert.inference.planning import ByLength, Planner
from jaxbert.inference.programs import Program, on_host
from jaxbert.process.backend import option

ONE_THREAD: Mapping[str, bool | str] = {"xla_cpu_multi_thread_eigen": False}
# A row of more tokens than this is enough work for all cores, and too much memory for one each.
LONG = 2048
# Up to this many tokens a batch is no faster on all cores, even if they have nothing else to do.
SMALL = 128


class CoreBatch(NamedTuple):
    """The arrays of a batch, and whether all cores share it."""

    arrays: BatchArrays
    every_core: bool


class Pending:
    """The result of a batch that a thread computes; np.asarray waits for it."""

    def __init__(self, future: Future[np.ndarray]) -> None:
        """future gives the array, or raises what the computation raised."""
        self.future = future

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The result, as soon as it is there; dtype and copy as in np.asarray."""
        return np.asarray(self.future.result(), dtype)


@cache
def threads(number: int) -> ThreadPoolExecutor:
    """So many threads, which all models of this process share."""
    return ThreadPoolExecutor(number, thread_name_prefix="jaxbert")


class CoreProgram:
    """A function of batches, compiled for one core and, where they share a batch, for all."""

    def __init__(
        self, function: Callable[..., jax.Array], *fixed: Any, device: Any, cores: int
    ) -> None:
        """fixed are the leading arguments of every call; each of the cores has a thread."""
        place = {"placement": device, "fixed_placement": device}
        self.together = Program(function, *fixed, **place)
        self.alone = Program(function, *fixed, **place, options=ONE_THREAD)
        self.cores, self.ahead = cores, 2 * cores

    @property
    def fixed(self) -> list[jax.Array]:
        """The arrays of the leading arguments, which both programs share."""
        return self.alone.fixed

    @property
    def compiled(self) -> dict[Any, Callable[..., jax.Array]]:
        """The compiled programs, by whether all cores share a batch and by its shapes."""
        programs = ((False, self.alone), (True, self.together))
        return {(all_, *key): made for all_, own in programs for key, made in own.compiled.items()}

    @property
    def compilations(self) -> int:
        """How many programs have been compiled or read from the cache."""
        return self.together.compilations + self.alone.compilations

    @property
    def seconds(self) -> float:
        """The seconds that this took."""
        return self.together.seconds + self.alone.seconds

    def compile(self, batch: CoreBatch, *extra: Any) -> None:
        """Compile what a batch of this shape takes, in company and by itself."""
        self.alone.compile(batch.arrays, *extra)
        if batch.every_core:
            self.together.compile(batch.arrays, *extra)

    def __call__(self, batch: CoreBatch, *extra: Any) -> Pending:
        """function(*fixed, arrays, *extra), computed by a thread; new shapes are compiled first."""
        program = self.together if batch.every_core else self.alone
        arrays = (batch.arrays, *extra)
        if option("jax_disable_jit"):  # which holds in this thread alone
            done: Future[np.ndarray] = Future()
            done.set_result(on_host(program(*arrays)))
            return Pending(done)
        program.compile(*arrays)
        pool = threads(1 if batch.every_core else self.cores)
        return Pending(pool.submit(lambda: on_host(program(*arrays))))


class PerCore(OneDevice):
    """A batch on each core of a CPU at once, or a batch on all of them."""

    def __init__(self, device: jax.Device | None, planner: Planner, cores: int) -> None:
        """The planner says whether the program of a text may depend on the other texts."""
        super().__init__(device)
        self.cores = cores
        self.free = isinstance(planner, ByLength)

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> Any:
        """The program of function(*fixed, *arrays), where arrays are those of one batch."""
        return CoreProgram(function, *fixed, device=self.first, cores=self.cores)

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, Any]]:
        """(members, arrays) of each batch in turn."""
        few = self.free and 2 * len(batches) <= self.cores
        for batch in batches:
            large = batch.length > LONG or (few and batch.rows * batch.length > SMALL)
            yield batch.members, CoreBatch(batch.fill(tokens), large)


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_cores(devices: OneDevice, planner: Planner, platform: str) -> OneDevice:
    """The device itself, or its cores where it is a CPU with several."""
    number = min(usable_cores(), 32)
    return PerCore(devices.first, planner, number) if platform == "cpu" and number > 1 else devices
