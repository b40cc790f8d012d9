"""Which weights and parts a module had at one moment, to notice that they were changed in place."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

# A field of nnx's own, which its transformations replace.
OWN = "_pytree__"


class Snapshot:
    """The arrays and fields of a module and of all modules in it.

    Arrays cannot be changed, only exchanged, so that comparing identities is enough.
    """

    def __init__(self, module: Any) -> None:
        """Hold the arrays and fields as they are now."""
        self.keep(module)

    def keep(self, module: Any) -> None:
        """Hold the arrays and fields of this module from now on."""
        self.leaves, self.tree = jax.tree.flatten(module)
        self.fields = list(fields_of(module))

    def fits(self, module: Any) -> bool:
        """Whether the module still has them; some microseconds, since every call asks.

        Transformations of nnx put equal arrays in the place of those that were there; these are
        compared once.
        """
        if all(now(holder, name) is value for holder, name, value in self.fields):
            return True
        leaves, tree = jax.tree.flatten(module)
        pairs = zip(leaves, self.leaves, strict=False)
        same = tree == self.tree and all(a is b or equal(a, b) for a, b in pairs)  # type: ignore[operator]
        if same:
            self.keep(module)
        return same


def fields_of(node: Any) -> Iterator[tuple[Any, str, Any]]:
    """(holder, name, value) of each field in a module and in the modules that it holds."""
    if isinstance(node, nnx.Variable):
        yield node, "", node.get_raw_value()
        return
    for name, value in vars(node).items():
        if name.startswith(OWN):
            continue
        yield vars(node), name, value
        if isinstance(value, nnx.Pytree | nnx.Variable):
            yield from fields_of(value)


def now(holder: Any, name: str) -> Any:
    """The value that a field has now."""
    return holder.get(name) if name else holder.get_raw_value()


def equal(a: Any, b: Any) -> bool:
    """Whether two arrays are of the same shape, dtype and numbers."""
    same = a.shape == b.shape and a.dtype == b.dtype
    return bool(same and np.array_equal(np.asarray(a), np.asarray(b)))
