"""The weights of a module at one moment, to notice later that they were changed in place."""

from typing import Any

import jax
from flax import nnx


class Snapshot:
    """The arrays and fields of a module; an array is immutable, but may be replaced by another."""

    def __init__(self, module: nnx.Module) -> None:
        """Record the variables with their arrays, and the fields of the module itself."""
        leaves = jax.tree.leaves(module, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
        variables = [leaf for leaf in leaves if isinstance(leaf, nnx.Variable)]
        self.arrays = [(variable, variable.get_raw_value()) for variable in variables]
        self.fields = dict(vars(module))

    def of(self, module: Any) -> bool:
        """Whether the module still has the same; takes microseconds, as every call asks."""
        fields = vars(module)
        return (
            len(fields) == len(self.fields)
            and all(fields.get(name) is value for name, value in self.fields.items())
            and all(variable.get_raw_value() is array for variable, array in self.arrays)
        )
