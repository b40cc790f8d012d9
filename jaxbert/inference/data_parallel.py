"""Where batches run: on one device, or one batch on each of several; both have one interface.

On several devices, batches of one shape are stacked on a leading axis that is laid over them;
weights are on all of them. Nothing is exchanged between devices, and each runs the program of a
single batch, so that results have the same bits as on one (of the same kind).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxbert.inference.batches import Batch, BatchArrays
from jaxbert.inference.programs import Program
from jaxbert.process.backend import device_of

AXIS = "device"
EVERYWHERE, APART = P(), P(AXIS)  # type: ignore[no-untyped-call]


class Devices(Protocol):
    """Where batches run, and how their arrays and results are laid there."""

    first: jax.Device | None  # where what is no batch runs; None: where its arrays are

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> Program:
        """The program of function(*fixed, *arrays) for what `jobs` gives."""

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members, arrays) of what runs at once."""

    def extra(self, array: np.ndarray) -> np.ndarray:
        """An argument that all batches share, as the program takes it."""

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(members, their rows) of each batch in a result of the program."""


class OneDevice:
    """All batches on one device, one after the other."""

    def __init__(self, device: jax.Device | None) -> None:
        """None: where the weights are, for they are sharded over several."""
        self.first = device

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> Program:
        """The program of function(*fixed, *arrays)."""
        return Program(function, *fixed, place=self.first, fixed_place=self.first)

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members, arrays) of each batch."""
        for batch in batches:
            yield batch.members, batch.fill(tokens)

    def extra(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows as they are."""
        yield members, results


class DataParallel:
    """A batch on each device at once."""

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Lay the axis of stacked batches over the devices."""
        self.mesh = Mesh(np.array(devices), (AXIS,))
        self.first, self.number = devices[0], len(devices)

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> Program:
        """The program of function(*fixed, *arrays) on as many stacks of arrays as devices.

        Each array has a leading axis of that length; so has the result.
        """
        leaves, tree = jax.tree.flatten(fixed)

        def one(leaves: list[jax.Array], arrays: Any) -> jax.Array:
            own = jax.tree.map(lambda stacked: stacked[0], arrays)
            return function(*jax.tree.unflatten(tree, leaves), *own)[None]

        # The check would refuse kernels, which do not say over which axes their results vary.
        on_each = jax.shard_map(
            one, mesh=self.mesh, in_specs=(EVERYWHERE, APART), out_specs=APART, check_vma=False
        )
        return Program(
            lambda leaves, *arrays: on_each(leaves, arrays),
            leaves,
            place=NamedSharding(self.mesh, APART),
            fixed_place=NamedSharding(self.mesh, EVERYWHERE),
        )

    def jobs(
        self, batches: Sequence[Batch], tokens: Sequence[np.ndarray]
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(members of each batch, their arrays stacked) of as many batches as devices."""
        yield from device_batches(batches, tokens, self.number)

    def extra(self, array: np.ndarray) -> np.ndarray:
        """A copy for each device."""
        return np.stack([array] * self.number)

    def rows(self, members: Any, results: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of a stack, one by one."""
        for own, rows in zip(members, results, strict=True):
            yield own, rows[: len(own)]


def devices_for(devices: Sequence[jax.Device] | None, weight: jax.Array) -> Devices:
    """One device or several; None: where the weight is."""
    if devices is None:
        return OneDevice(device_of(weight))
    return OneDevice(devices[0]) if len(devices) == 1 else DataParallel(devices)


def device_batches(
    batches: Sequence[Batch], tokens: Sequence[np.ndarray], number: int
) -> Iterator[tuple[list[np.ndarray], BatchArrays]]:
    """(members of each batch, their arrays stacked) of up to `number` batches of one shape.

    Where fewer are left, the rest of the stack is empty batches, which have no members.
    """
    alike: dict[Any, list[Batch]] = {}
    for batch in batches:
        alike.setdefault((type(batch), *shape(batch)), []).append(batch)
    for group in alike.values():
        for start in range(0, len(group), number):
            some = group[start : start + number]
            filled = [batch.fill(tokens) for batch in some]
            empty = jax.tree.map(np.zeros_like, filled[0])
            filled += [empty] * (number - len(some))
            yield [batch.members for batch in some], jax.tree.map(lambda *a: np.stack(a), *filled)


def shape(batch: Batch) -> tuple[int, ...]:
    """What a batch's program depends on."""
    return tuple(field for field in batch if isinstance(field, int))
