"""Helpers for Flax NNX: arrays that are always leaves, the first weight, stacked layers."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.errors import InputError
from jaxbert.model.config import EncoderConfig


class Module(nnx.Module):
    """An nnx.Module whose arrays are always leaves, also those that tracing makes constants.

    Differs: nnx makes an array that was computed inside jit from numbers alone a static field; a
    Bias with static slopes would have no axis n to map over.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an array is marked as data, so that it is a leaf."""
        bare = hasattr(value, "dtype") and not isinstance(value, nnx.Variable)
        super().__setattr__(name, nnx.data(value) if bare else value)


def first_weight(module: nnx.Module) -> jax.Array:
    """The first array of floats of a module: its dtype and device are those of all weights."""
    for leaf in jax.tree.leaves(module):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
    raise InputError(f"{type(module).__name__} has no weights; give it an nnx.Param")


def stack_layers(layers: Sequence[Any], config: EncoderConfig) -> Any:
    """One layer whose weights have the leading axis l; all must share one structure, for a scan."""
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
