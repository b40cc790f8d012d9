"""Batches -> device -> rows of results: one program per shape, the host a step ahead."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Event, Lock, Semaphore, Thread
from typing import Any, TypeAlias, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxbert.inference.batches import Filled
from jaxbert.inference.compilation_cache import through_cache
from jaxbert.process import interrupts
from jaxbert.process.backend import computing, option

# Batches under way at once: one runs while the next is being put together.
AHEAD = 2
# A window of texts is tokenised at a time: the most texts, and the most characters (a single longer
# text is a window of its own). It bounds what is in memory beside the vectors.
WINDOW = 8192, 2**22
OFTEN = 0.2  # seconds between two looks for a signal, where nothing else happens

log = logging.getLogger(__name__)
# Where arrays are laid: a device, or a sharding over several.
Placement: TypeAlias = jax.Device | NamedSharding | None
# A mesh that the user computes on at the moment has nothing to do with where programs run here.
NO_MESH = jax.sharding.Mesh(np.empty((), object), ())
Part = TypeVar("Part")
Result = TypeVar("Result")


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


def run(
    program: Callable[..., jax.Array],
    jobs: Iterable[tuple[np.ndarray, Filled]],
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
            yield finished(*waiting.popleft())
    while waiting:
        yield finished(*waiting.popleft())


def finished(members: np.ndarray, result: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Wait for a result, and drop the rows that only filled up the batch."""
    return members, on_host(result)[: len(members)]


def on_host(result: jax.Array) -> np.ndarray:
    """The numbers of a result, once it is there."""
    with jax.transfer_guard("allow"):
        return np.asarray(result)


# --- in order, the next one begun ---------------------------------------------------------------


def windows(
    texts: Sequence[str], extra: int = 0, most: tuple[int, int] = WINDOW
) -> Iterator[tuple[int, Sequence[str]]]:
    """(index of the first, texts that follow one another), up to so many texts and characters.

    Each text counts `extra` characters more, those of a prompt.
    """
    start = size = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == most[0] or size + len(text) + extra > most[1]):
            yield start, texts[start:i]
            start, size = i, 0
        size += len(text) + extra
    if len(texts) > start:
        yield start, texts[start:]


def ahead(function: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """function(part) of each part in order; the next is computed while the caller has the last.

    A part is taken from its iterator in the same thread, so reading runs ahead too, by one. Who
    stops early does not wait for that thread, which may be reading from a pipe that says nothing.
    """
    if isinstance(parts, list) and len(parts) == 1:
        yield function(parts[0])
        return
    found: SimpleQueue[tuple[list[Result], BaseException | None]] = SimpleQueue()
    wanted, stopped = Semaphore(1), Event()

    def work() -> None:
        try:
            iterator = iter(parts)
            while wanted.acquire() and not stopped.is_set():
                some = [function(part) for part in islice(iterator, 1)]
                found.put((some, None))
                if not some:
                    return
        except BaseException as error:
            found.put(([], error))

    Thread(target=work, daemon=True).start()
    try:
        while True:
            some, error = next_of(found)
            if error is not None:
                raise error
            if not some:
                return
            wanted.release()
            yield some[0]
    finally:
        stopped.set()
        wanted.release()


def next_of(queue: SimpleQueue[Result]) -> Result:
    """What comes next; raises Interrupted if a signal comes before."""
    while True:
        interrupts.check()
        with suppress(Empty):
            return queue.get(timeout=OFTEN)


# --- what was done ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stats:
    """What has been embedded so far; differences of two are those of the calls between them."""

    texts: int = 0
    tokens: int = 0  # special tokens included
    slots: int = 0  # tokens that the batches had room for
    batches: int = 0
    compilations: int = 0
    compile_seconds: float = 0.0
    seconds: float = 0.0  # of encode and warmup in all, compilations included

    def __sub__(self, before: "Stats") -> "Stats":
        """What was done since then."""
        mine, theirs = vars(self), vars(before)
        return Stats(**{name: mine[name] - theirs[name] for name in mine})

    @property
    def padding_efficiency(self) -> float:
        """tokens / slots: the share of the computed tokens that are text; 1 before any."""
        return self.tokens / self.slots if self.slots else 1.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of text per second, without the time of compilations."""
        running = self.seconds - self.compile_seconds
        return self.tokens / running if running > 0 else 0.0

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.texts} texts, {self.tokens} tokens in {self.seconds:.2f} s, "
            f"{self.tokens_per_second:.0f} tokens/s; {self.batches} batches, padding efficiency "
            f"{self.padding_efficiency:.3f}; {self.compilations} compilations in "
            f"{self.compile_seconds:.2f} s"
        )


class Tally:
    """Stats that grow; threads may share it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.total, self.lock = Stats(), Lock()

    def add(self, **numbers: float) -> None:
        """Add to some of the numbers."""
        with self.lock:
            self.total = Stats(
                **{name: value + numbers.get(name, 0) for name, value in vars(self.total).items()}
            )
