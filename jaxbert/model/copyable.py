"""A module that can be copied and pickled; copies share its arrays, which are immutable."""

import pickle
from typing import Any, Self, TypeVar

import jax
from flax import nnx

from jaxbert.errors import InputTypeError, shown

Module = TypeVar("Module", bound=nnx.Module)


class Copyable(nnx.Module):
    """A module whose attention may be any callable; a pickle of it holds NumPy arrays."""

    attention: Any

    def __getstate__(self) -> Any:
        """The state for a pickle. Raises InputTypeError if the attention cannot be pickled."""
        check_pickles(self.attention, "attention")
        return super().__getstate__()  # type: ignore[no-untyped-call]

    def __copy__(self) -> Self:
        """A module with the same attributes and submodules."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __deepcopy__(self, memo: Any = None) -> Self:
        """A module with its own submodules: setting a weight of one leaves the other unchanged."""
        return jax.tree.map(lambda leaf: leaf, self)


def with_parts(module: Module, **parts: Any) -> Module:
    """The module with other attributes of the same names; all else is shared."""
    copied = object.__new__(type(module))
    vars(copied).update(vars(module), **parts)
    return copied


def with_attention(module: Module, attention: Any) -> Module:
    """The module with another attention; all else is shared."""
    return with_parts(module, attention=attention)


def check_pickles(value: Any, name: str) -> None:
    """Raise InputTypeError for a value that cannot be pickled, such as a lambda."""
    try:
        pickle.dumps(value)
    except Exception as error:  # each type has its own way to refuse
        raise InputTypeError(
            f"{name} is {shown(value)}, which cannot be pickled; define it at the top level of a "
            "module, so that other processes can import it"
        ) from error
