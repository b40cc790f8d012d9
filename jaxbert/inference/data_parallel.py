"""Batches on one device, or one batch on each of several, behind one interface.

On several devices, batches of one shape are stacked on a leading axis that is sharded over the
devices; weights are replicated. Devices exchange nothing, and each runs the program of a single
batch, so that results have the same bits as on one device (of the same kind).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxbert.inference.batches import Batch, BatchArrays
from jaxbert.inference.programs import AHEAD, AnyProgram, Program
from jaxbert.process.backend import device_of

AXIS = "device"
REPLICATED, SHARDED = P(), P(AXIS)  # type: ignore[no-untyped-call]


class Devices(Protocol):
    """OneDevice, DataParallel, OpenVinoDevice: programs, and arrays for them."""

    first: jax.Device | None  # where pooling alone runs; None: where its arrays are
    ahead: int  # jobs that are begun before the first is waited for

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> AnyProgram:
        """The program of function(*fixed, *arrays), for arrays of `jobs`."""

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members, arrays) of what runs at once: one batch, or one for each device."""

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(members, their rows) of each batch in one result of the program."""


class OneDevice:
    """All batches on one device, one after the other."""

    ahead = AHEAD

    def __init__(self, device: jax.Device | None) -> None:
        """device is None for weights that are sharded over several devices."""
        self.first = device

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> AnyProgram:
        """The program of function(*fixed, *arrays), where arrays are those of one batch."""
        return Program(function, *fixed, placement=self.first, fixed_placement=self.first)

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members, arrays) of each batch in turn."""
        for batch in batches:
            yield batch.members, batch.fill(tokens)

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The results unchanged, as those of one batch."""
        yield members, results


class DataParallel:
    """A batch on each device at once."""

    ahead = AHEAD

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Make a mesh of the devices, with one axis for the stacked batches."""
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.first, self.number = devices[0], len(devices)

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> Program:
        """The program of function(*fixed, *arrays) on one batch for each device.

        Each array has a leading axis with one entry for each device; so has the result.
        """
        leaves, tree = jax.tree.flatten(fixed)

        def on_one(leaves: list[jax.Array], arrays: Any) -> jax.Array:
            batch = jax.tree.map(lambda stacked: stacked[0], arrays)
            return function(*jax.tree.unflatten(tree, leaves), *batch)[None]

        # check_vma would refuse kernels, which do not say over which axes their results vary.
        on_each = jax.shard_map(
            on_one,
            mesh=self.mesh,
            in_specs=(REPLICATED, SHARDED),
            out_specs=SHARDED,
            check_vma=False,
        )
        return Program(
            lambda leaves, *arrays: on_each(leaves, arrays),
            leaves,
            placement=NamedSharding(self.mesh, SHARDED),
            fixed_placement=NamedSharding(self.mesh, REPLICATED),
        )

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members of each batch, their arrays stacked), one batch for each device."""
        yield from device_batches(batches, tokens, self.number)

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(members, rows) of the batch on each device in turn."""
        for batch_members, rows in zip(members, results, strict=True):
            yield batch_members, rows[: len(batch_members)]


def devices_for(devices: Sequence[jax.Device] | None, weight: jax.Array) -> Devices:
    """OneDevice or DataParallel for these devices; None is the one device that the weight is on."""
    if devices is None:
        return OneDevice(device_of(weight))
    return OneDevice(devices[0]) if len(devices) == 1 else DataParallel(devices)


def device_batches(
    batches: Sequence[Batch], tokens: Sequence[np.ndarray], number: int
) -> Iterator[tuple[list[np.ndarray], BatchArrays]]:
    """(members of each batch, their arrays stacked) of up to `number` batches of one shape.

    Where fewer are left, the arrays are filled up with empty batches, which have no members.
    """
    by_shape: dict[Any, list[Batch]] = {}
    for batch in batches:
        by_shape.setdefault((type(batch), *shape(batch)), []).append(batch)
    for same_shape in by_shape.values():
        for start in range(0, len(same_shape), number):
            chosen = same_shape[start : start + number]
            arrays = [batch.fill(tokens) for batch in chosen]
            empty = jax.tree.map(np.zeros_like, arrays[0])
            arrays += [empty] * (number - len(chosen))
            yield [batch.members for batch in chosen], jax.tree.map(lambda *a: np.stack(a), *arrays)


def shape(batch: Batch) -> tuple[int, ...]:
    """The integer fields of a batch, which decide the shapes of its arrays."""
    return tuple(field for field in batch if isinstance(field, int))
