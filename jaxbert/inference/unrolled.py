"""An encoder with its layers in a list instead of a scan: what a CPU runs.

A scan copies each layer's weights out of the stacked arrays in every step: negligible for a large
batch on an accelerator, but most of a short text's time in bfloat16 on a CPU (notes/06-cpu.md).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxbert.errors import InputError
from jaxbert.model.axes import Hidden
from jaxbert.model.module import first_weight
from jaxbert.model.transformer import AttentionMetadata, Inputs, Transformer
from jaxbert.process.backend import device_of


class Unrolled(Transformer):
    """embeddings, then layers[0], layers[1], ...: the states that Transformer.forward gives."""

    def __init__(self, encoder: Transformer, layers: Sequence[nnx.Module] | None = None) -> None:
        """Take over an encoder and its layers; None: by unstack_layers, shared where it can."""
        self.config = encoder.config
        self.embeddings = encoder.embeddings
        self.position = encoder.position
        self.layers = nnx.List(unstack_layers(encoder) if layers is None else layers)
        self.final_norm = encoder.final_norm
        self.attention = encoder.attention

    def forward(self, inputs: Inputs) -> Hidden:
        """The states after the last layer; for use inside jit, on prepared inputs."""
        return self.final_norm(self.forward_through(self.layers, inputs)[0])

    def forward_through(self, layers: Any, inputs: Inputs) -> tuple[Hidden, AttentionMetadata]:
        """The states after these layers, the first ones of the encoder, and the metadata."""
        x, metadata = self.forward_embeddings(inputs)
        # Under a jit of its own a layer is traced once, not once for each.
        step = jax.jit(lambda layer, x, metadata: layer(x, metadata, self.attention))
        for i, layer in enumerate(layers):
            x = step(layer, x, metadata._replace(layer=jnp.asarray(i, jnp.int32)))
        return x, metadata


def unstack_layers(encoder: Transformer) -> list[nnx.Module]:
    """The layers of an encoder as a list, in order.

    On a CPU their weights are views of the stacked ones where a layer begins at a multiple of 64
    bytes, since NumPy slices and JAX takes these without a copy; else they are copies.
    """
    leaves, tree = jax.tree.flatten(encoder.layers)
    layers = encoder.config.num_layers
    if any(leaf.ndim == 0 or leaf.shape[0] != layers for leaf in leaves):
        raise InputError(
            f"each weight of the layers needs a leading axis of {layers}, a row for each"
        )
    device = device_of(first_weight(encoder.embeddings))
    rows = jax.device_put([list(np.asarray(leaf)) for leaf in leaves], device)
    return [jax.tree.unflatten(tree, same) for same in zip(*rows, strict=True)]


def unrolled_where_faster(encoder: Transformer, platform: str) -> Transformer:
    """The encoder with its layers one by one on a CPU; the encoder itself on other platforms.

    A subclass with a forward pass, or embeddings, of its own runs those, everywhere.
    """
    return Unrolled(encoder) if runs_unrolled(encoder, platform) else encoder


def sliced_where_faster(encoder: Transformer, platform: str) -> Transformer:
    """The same within a trace: layers are slices of the stacked weights, which gradients reach.

    Behind a scan the backward pass copies the weights of every layer out of the stacked arrays, and
    its gradients into others.
    """
    if not runs_unrolled(encoder, platform):
        return encoder
    leaves, tree = jax.tree.flatten(encoder.layers)
    # Unlike indexing, split has a gradient that is written once, not added up in a stack of zeros.
    rows = [jax.lax.split(leaf, [1] * encoder.config.num_layers) for leaf in leaves]
    slices = ([x.squeeze(0) for x in same] for same in zip(*rows, strict=True))
    return Unrolled(encoder, [jax.tree.unflatten(tree, same) for same in slices])


def runs_unrolled(encoder: Transformer, platform: str) -> bool:
    """Whether the layers are to be run one by one, in place of the encoder's own forward pass."""
    steps = ("forward", "forward_embeddings")
    own = any(getattr(type(encoder), name) is not getattr(Transformer, name) for name in steps)
    return platform == "cpu" and not own
