"""A module that can be copied and pickled; copies share its arrays, which nothing changes."""

import pickle
from typing import Any, Self

import jax
from flax import nnx

from jaxbert.errors import InputTypeError, shown


class Copyable(nnx.Module):
    """A module with an attention, which may be any callable; in a pickle arrays are NumPy's."""

    attention: Any

    def __getstate__(self) -> Any:
        """What a pickle holds: the weights and the parts."""
        check_pickles(self.attention, "attention")
        return super().__getstate__()  # type: ignore[no-untyped-call]

    def __copy__(self) -> Self:
        """A module that has the same parts."""
        own = object.__new__(type(self))
        vars(own).update(vars(self))
        return own

    def __deepcopy__(self, memo: Any = None) -> Self:
        """A module with parts of its own, so that setting a weight of one leaves the other."""
        return jax.tree.map(lambda leaf: leaf, self)


def check_pickles(value: Any, name: str) -> None:
    """Refuse to pickle a model with a part that cannot be, such as a lambda."""
    try:
        pickle.dumps(value)
    except Exception as error:  # each type has its own way to refuse
        raise InputTypeError(
            f"{name} is {shown(value)}, which cannot be pickled; define it at the top level of a "
            "module, so that other processes can import it"
        ) from error
