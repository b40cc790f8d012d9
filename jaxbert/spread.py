"""Several devices: one batch on each, every one computed as a single device would compute it.

Batches of one shape are stacked on a leading axis that is laid over the devices; weights are on all
of them. Nothing is exchanged between devices, and each runs the program of a single batch, so that
results have the same bits as on one (of the same kind).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxbert.batches import Batch, Filled
from jaxbert.runner import Program

AXIS = "device"
EVERYWHERE, APART = P(), P(AXIS)  # type: ignore[no-untyped-call]


def spread(
    function: Callable[..., jax.Array], devices: Sequence[jax.Device], *fixed: Any
) -> Program:
    """The program of function(*fixed, *arrays) on as many stacks of arrays as there are devices.

    Each array has a leading axis of that length; so has the result.
    """
    mesh = Mesh(np.array(devices), (AXIS,))
    leaves, tree = jax.tree.flatten(fixed)
    everywhere = jax.device_put(leaves, NamedSharding(mesh, EVERYWHERE))

    def one(leaves: list[jax.Array], arrays: Any) -> jax.Array:
        own = jax.tree.map(lambda stacked: stacked[0], arrays)
        return function(*jax.tree.unflatten(tree, leaves), *own)[None]

    # The check would refuse kernels, which do not say over which axes their results vary.
    on_each = jax.shard_map(
        one, mesh=mesh, in_specs=(EVERYWHERE, APART), out_specs=APART, check_vma=False
    )
    return Program(lambda leaves, *arrays: on_each(leaves, arrays), everywhere)


def stacks(
    batches: Sequence[Batch], tokens: Sequence[np.ndarray], number: int
) -> Iterator[tuple[list[np.ndarray], Filled]]:
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
