"""One compiled program per shape; the next batch is sent to the device while one runs."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.compilation_cache import through_cache
from jaxbert.process import interrupts
from jaxbert.process.backend import computing, option

# Batches on the device at once: one runs while the host fills the next.
AHEAD = 2

log = logging.getLogger(__name__)
# Where arrays are put: on a device, or sharded over several; None leaves that to JAX.
Placement: TypeAlias = jax.Device | NamedSharding | None
# Programs run without a mesh, also where the user has set one.
NO_MESH = jax.sharding.Mesh(np.empty((), object), ())


class AnyProgram(Protocol):
    """The interface of Program and OpenVinoProgram: a function of batches, compiled when needed."""

    seconds: float  # spent in compilations

    @property
    def compilations(self) -> int:
        """How many there have been so far."""

    def prepare(self) -> None:
        """Do what can be done before there is a batch."""

    def compile(self, *arrays: Any) -> Any:
        """Whatever runs arrays of these shapes."""

    def __call__(self, *arrays: Any) -> Any:
        """The result, of which np.asarray waits until it is there."""


class Program:
    """A function jitted once per shape of its inputs; it counts and times its compilations."""

    def __init__(
        self,
        function: Callable[..., jax.Array],
        *fixed: Any,
        placement: Placement = None,
        fixed_placement: Placement = None,
    ) -> None:
        """fixed are the leading arguments of every call, such as the weights.

        They are put on fixed_placement, and those of each call on placement.
        """
        leaves, tree = jax.tree.flatten(fixed)  # once, not in every call
        with jax.transfer_guard("allow"):
            self.fixed = leaves
            if fixed_placement is not None:
                self.fixed = jax.device_put(leaves, fixed_placement)
        self.placement = placement
        self.function: Callable[..., jax.Array] = lambda leaves, arrays: function(
            *jax.tree.unflatten(tree, leaves), *arrays
        )
        self.jitted = jax.jit(self.function)
        self.compiled: dict[tuple[tuple[int, ...], ...], Callable[..., jax.Array]] = {}
        self.locks: dict[tuple[tuple[int, ...], ...], Lock] = {}  # one for each shape
        self.seconds, self.counting = 0.0, Lock()

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled or read from the cache."""
        return len(self.compiled)

    def prepare(self) -> None:
        """Nothing, for a program is compiled for the shapes of a batch."""

    def compile(self, *arrays: Any) -> Callable[..., jax.Array]:
        """The compiled program for arrays of these shapes; the function itself while jit is off."""
        if option("jax_disable_jit"):
            return self.eagerly
        shapes = tuple(np.shape(array) for array in jax.tree.leaves(arrays))
        if shapes not in self.compiled:
            # Threads that meet one new shape compile it once; other shapes go on meanwhile.
            with self.locks.setdefault(shapes, Lock()):
                if shapes not in self.compiled:
                    self.compiled[shapes] = self.compiled_anew(shapes, arrays)
        return self.compiled[shapes]

    def eagerly(self, fixed: list[jax.Array], arrays: Any) -> jax.Array:
        """The function's operations one by one, on arrays of the device."""
        return self.function(fixed, jax.device_put(arrays, self.placement))

    def compiled_anew(self, shapes: Any, arrays: Any) -> Callable[..., jax.Array]:
        """The program for arrays of these shapes, compiled or read from the cache."""
        start = time.perf_counter()
        with computing(), jax.set_mesh(NO_MESH):
            lowered = self.jitted.lower(self.fixed, jax.device_put(arrays, self.placement))
        devices = devices_of(self.placement)
        compiled = through_cache(lowered, devices) if devices else lowered.compile()
        seconds = time.perf_counter() - start
        with self.counting:
            self.seconds += seconds
        log.info("program %d, for %s: %.2f s", self.compilations + 1, shapes[0], seconds)
        return compiled

    def __call__(self, *arrays: Any) -> jax.Array:
        """function(*fixed, *arrays) on the device; new shapes are compiled first.

        arrays are of the host, and of the dtypes that their shapes were first compiled for. JAX's
        transfer guard is off, since moving arrays to the device is what a call is for.
        """
        with computing(), jax.set_mesh(NO_MESH):
            program = self.compile(*arrays)
            return program(self.fixed, arrays)


def devices_of(placement: Placement) -> list[jax.Device]:
    """The devices in the order in which a program uses them; none where that is left to JAX."""
    if isinstance(placement, NamedSharding):
        return list(placement.mesh.devices.flat)
    return [placement] if isinstance(placement, jax.Device) else []


def run_jobs(
    program: Callable[..., jax.Array],
    jobs: Iterable[tuple[np.ndarray, BatchArrays]],
    *extra: np.ndarray,
    ahead: int = AHEAD,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(members, their results [len(members), ...]) of each job, in the order of the jobs.

    Jobs are taken from the iterator one by one, so that a generator runs while the device does;
    `ahead` of them are begun before the first is waited for.
    """
    waiting: deque[tuple[np.ndarray, jax.Array]] = deque()
    for members, arrays in jobs:
        interrupts.check()
        waiting.append((members, program(arrays, *extra)))
        if len(waiting) == ahead:
            yield result_of(*waiting.popleft())
    while waiting:
        yield result_of(*waiting.popleft())


def result_of(members: np.ndarray, result: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """(members, their rows) of a result, once it is there, without the batch's empty rows."""
    return members, on_host(result)[: len(members)]


def on_host(result: jax.Array) -> np.ndarray:
    """The result as a NumPy array, once it is there."""
    with jax.transfer_guard("allow"):
        return np.asarray(result)
