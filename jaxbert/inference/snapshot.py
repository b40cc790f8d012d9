"""Which weights a module had at one moment, to notice that they were changed in place."""

from typing import Any

import jax
from flax import nnx


class Snapshot:
    """The arrays and fields of a module; arrays cannot be changed, only exchanged."""

    def __init__(self, module: nnx.Module) -> None:
        """Hold the variables with their arrays, and the fields of the module itself."""
        leaves = jax.tree.leaves(module, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
        variables = [leaf for leaf in leaves if isinstance(leaf, nnx.Variable)]
        self.arrays = [(variable, variable.get_raw_value()) for variable in variables]
        self.fields = dict(vars(module))

    def of(self, module: Any) -> bool:
        """Whether the module still has them; some microseconds, for it is asked in every call."""
        fields = vars(module)
        return (
            len(fields) == len(self.fields)
            and all(fields.get(name) is value for name, value in self.fields.items())
            and all(variable.get_raw_value() is array for variable, array in self.arrays)
        )
