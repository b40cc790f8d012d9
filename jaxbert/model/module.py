"""A workaround for the framework, in a file of its own so that no page has to open with it."""

from typing import Any

from flax import nnx


class Module(nnx.Module):
    """An nnx.Module whose arrays are always leaves, also those that tracing makes constants.

    Differs: nnx takes an array that was made inside jit from numbers alone for a static field; a
    Bias whose slopes were static would have no axis to take the heads apart on.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Mark arrays as data."""
        bare = hasattr(value, "dtype") and not isinstance(value, nnx.Variable)
        super().__setattr__(name, nnx.data(value) if bare else value)
