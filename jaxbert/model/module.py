"""Help with the framework, in a file of its own so that no page has to open with it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.errors import InputError
from jaxbert.model.config import EncoderConfig


class Module(nnx.Module):
    """An nnx.Module whose arrays are always leaves, also those that tracing makes constants.

    Differs: nnx takes an array that was made inside jit from numbers alone for a static field; a
    Bias whose slopes were static would have no axis to take the heads apart on.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Mark arrays as data."""
        bare = hasattr(value, "dtype") and not isinstance(value, nnx.Variable)
        super().__setattr__(name, nnx.data(value) if bare else value)


def stack_layers(layers: Sequence[Any], config: EncoderConfig) -> Any:
    """One layer whose weights have the leading axis l; all must be built alike to be scanned."""
    if len(layers) != config.num_layers:
        raise InputError(
            f"there are {len(layers)} layers where the config says {config.num_layers}; pass a "
            "maker for each"
        )
    structure: Any = jax.tree.structure(layers[0])
    for i, layer in enumerate(layers):
        if jax.tree.structure(layer) != structure:
            raise InputError(
                f"layer {i} is built otherwise than layer 0, so they cannot be scanned; make what "
                "differs an array in both"
            )
    return jax.tree.map(lambda *same: jnp.stack(same), *layers)
