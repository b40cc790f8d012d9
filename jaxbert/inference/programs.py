"""One compiled program per shape; the next batch is sent to the device while one runs."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol, TypeAlias

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.compilation_cache import cores, through_cache
from jaxbert.process import interrupts
from jaxbert.process.backend import computing, option

# Batches on the device at once: one runs while the host fills the next.
AHEAD = 2

log = logging.getLogger(__name__)
# Where arrays are put: on a device, or sharded over several; None leaves that to JAX.
Placement: TypeAlias = jax.Device | NamedSharding | None
# Compile programs while others compile or run: XLA compiles one on one core.
COMPILERS = ThreadPoolExecutor(min(cores(), 4), "jaxbert-compile")
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

    def begin(self, *arrays: Any) -> None:
        """Have whatever runs arrays of these shapes compiled, without waiting for it."""

    def cancel(self) -> None:
        """Forget what was begun and is not compiled yet, since nobody waits for it."""

    def compile(self, *arrays: Any) -> Any:
        """Whatever runs arrays of these shapes."""

    def __call__(self, *arrays: Any) -> Any:
        """The result, of which np.asarray waits until it is there."""


Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Compiled: TypeAlias = Callable[..., jax.Array]


def shapes_of(arrays: Any) -> Shapes:
    """The shapes of all arrays, in order."""
    return tuple(np.shape(array) for array in jax.tree.leaves(arrays))


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
        self.function = lambda leaves, arrays: function(*jax.tree.unflatten(tree, leaves), *arrays)
        self.jitted = jax.jit(self.function)
        self.compiled: dict[Shapes, Compiled] = {}
        self.underway: dict[Shapes, Future[None]] = {}
        self.lock = Lock()  # of both, for threads that call the program at once
        self.seconds = 0.0

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled or read from the cache."""
        return len(self.compiled)

    def prepare(self) -> None:
        """Nothing, for a program is compiled for the shapes of a batch."""

    def begin(self, *arrays: Any) -> None:
        """Have the program for arrays of these shapes compiled by another thread, if it is new.

        On a GPU that is left for later: XLA times kernels there while it compiles, and chooses
        among them, so that nothing may run beside it.
        """
        on_gpu = any(device.platform == "gpu" for device in devices_of(self.placement))
        if not (on_gpu or option("jax_disable_jit")):
            self.promised(shapes_of(arrays), arrays)

    def promised(self, shapes: Shapes, arrays: Any) -> Future[None] | None:
        """What waits for the program of these shapes; None if it is there."""
        with self.lock:
            if shapes in self.compiled:
                return None
            if shapes not in self.underway:
                # Traced here, since the user's settings of JAX may be those of this thread alone.
                with computing(), jax.set_mesh(NO_MESH):
                    lowered = self.jitted.lower(self.fixed, jax.device_put(arrays, self.placement))
                self.underway[shapes] = COMPILERS.submit(self.build, shapes, lowered)
            return self.underway[shapes]

    def build(self, shapes: Shapes, lowered: jax.stages.Lowered) -> None:
        """Compile the program, or read it from the cache, and keep it."""
        start, devices = time.perf_counter(), devices_of(self.placement)
        with computing():
            program = through_cache(lowered, devices) if devices else lowered.compile()
        seconds = time.perf_counter() - start
        with self.lock:
            self.compiled[shapes] = program
            self.seconds += seconds
        log.info("program %d, for %s: %.2f s", self.compilations, shapes[0], seconds)

    def cancel(self) -> None:
        """Forget what was begun but is not being compiled yet, since nobody waits for it."""
        with self.lock:
            for shapes, future in list(self.underway.items()):
                if future.cancel() or (future.done() and future.exception()):
                    del self.underway[shapes]

    def compile(self, *arrays: Any) -> Compiled:
        """The compiled program for arrays of these shapes; the function itself while jit is off."""
        if option("jax_disable_jit"):
            return self.function
        shapes = shapes_of(arrays)
        while shapes not in self.compiled:
            if (future := self.promised(shapes, arrays)) is not None:
                self.wait_for(shapes, future)
        return self.compiled[shapes]

    def wait_for(self, shapes: Shapes, future: Future[None]) -> None:
        """Wait for a program; what failed, or was cancelled by another thread, is begun anew."""
        with suppress(CancelledError):
            try:
                future.result()
            finally:
                with self.lock:
                    if future.done() and self.underway.get(shapes) is future:
                        del self.underway[shapes]

    def __call__(self, *arrays: Any) -> jax.Array:
        """function(*fixed, *arrays) on the device; new shapes are compiled first.

        JAX's transfer guard is off, since moving arrays to the device is what a call is for.
        """
        with computing(), jax.set_mesh(NO_MESH):
            program = self.compile(*arrays)
            return program(self.fixed, jax.device_put(arrays, self.placement))


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
