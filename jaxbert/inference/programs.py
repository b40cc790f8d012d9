"""Arrays -> device -> results: one compiled program per shape, the next batch sent ahead."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.compilation_cache import through_cache
from jaxbert.process import interrupts
from jaxbert.process.backend import computing, option

# Batches under way at once: one runs while the next is being put together.
AHEAD = 2

log = logging.getLogger(__name__)
# Where arrays are laid: a device, or a sharding over several.
Placement: TypeAlias = jax.Device | NamedSharding | None
# A mesh that the user computes on at the moment has nothing to do with where programs run here.
NO_MESH = jax.sharding.Mesh(np.empty((), object), ())


class Program:
    """A function jitted once per shape of its inputs; it counts and times its compilations."""

    def __init__(
        self,
        function: Callable[..., jax.Array],
        *fixed: Any,
        place: Placement = None,
        fixed_place: Placement = None,
    ) -> None:
        """The leading arguments, such as the weights, stay the same in every call.

        They are laid on fixed_place, those of a call on place; None leaves that to JAX.
        """
        leaves, tree = jax.tree.flatten(fixed)  # once, not in every call
        with jax.transfer_guard("allow"):
            self.fixed = leaves if fixed_place is None else jax.device_put(leaves, fixed_place)
        self.place = place
        self.function = lambda leaves, arrays: function(*jax.tree.unflatten(tree, leaves), *arrays)
        self.jitted = jax.jit(self.function)
        self.compiled: dict[tuple[tuple[int, ...], ...], Callable[..., jax.Array]] = {}
        self.seconds = 0.0

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled, or read from the cache of compiled programs."""
        return len(self.compiled)

    def compile(self, *arrays: Any) -> Callable[..., jax.Array]:
        """The program for arrays of these shapes; not compiled while JAX's jit is turned off."""
        if option("jax_disable_jit"):
            return self.function
        shapes = tuple(np.shape(array) for array in jax.tree.leaves(arrays))
        if shapes not in self.compiled:
            start = time.perf_counter()
            with computing(), jax.set_mesh(NO_MESH):
                lowered = self.jitted.lower(self.fixed, jax.device_put(arrays, self.place))
            devices = devices_of(self.place)
            self.compiled[shapes] = (
                through_cache(lowered, devices) if devices else lowered.compile()
            )
            seconds = time.perf_counter() - start
            self.seconds += seconds
            log.info("program %d, for %s: %.2f s", self.compilations, shapes[0], seconds)
        return self.compiled[shapes]

    def __call__(self, *arrays: Any) -> jax.Array:
        """Run, compiling first where the shapes are new.

        Moving arrays to the device is what a call is for, so JAX's transfer guard is not asked.
        """
        with computing(), jax.set_mesh(NO_MESH):
            program = self.compile(*arrays)
            return program(self.fixed, jax.device_put(arrays, self.place))


def devices_of(place: Placement) -> list[jax.Device]:
    """The devices in the order in which a program sees them; none where that is left to JAX."""
    if isinstance(place, NamedSharding):
        return list(place.mesh.devices.flat)
    return [place] if isinstance(place, jax.Device) else []


def run_jobs(
    program: Callable[..., jax.Array],
    jobs: Iterable[tuple[np.ndarray, BatchArrays]],
    *extra: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(members, their results [len(members), ...]) of each job, in the order of the jobs.

    Jobs are taken as they are needed, so that a generator of them works while the device does.
    """
    waiting: deque[tuple[np.ndarray, jax.Array]] = deque()
    for members, arrays in jobs:
        interrupts.check()
        waiting.append((members, program(arrays, *extra)))
        if len(waiting) == AHEAD:
            yield result_of(*waiting.popleft())
    while waiting:
        yield result_of(*waiting.popleft())


def result_of(members: np.ndarray, result: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Wait for a result, and drop the rows that only filled up the batch."""
    return members, on_host(result)[: len(members)]


def on_host(result: jax.Array) -> np.ndarray:
    """The numbers of a result, once it is there."""
    with jax.transfer_guard("allow"):
        return np.asarray(result)
