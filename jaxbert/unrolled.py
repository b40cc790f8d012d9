"""The same encoder with its layers one by one: what a CPU runs.

A scan copies each layer's weights out of the stack in every step: nothing beside a large batch on
an accelerator, but most of a short text's time in bfloat16 on a CPU (notes/06-cpu.md).
"""

import jax
import numpy as np
from flax import nnx

from jaxbert.axes import Hidden
from jaxbert.backend import device_of
from jaxbert.encoder import Encoder, Layer, Place
from jaxbert.errors import InputError
from jaxbert.inputs import Inputs


class Unrolled(nnx.Module):
    """embeddings, then layers[0], layers[1], ...: the states that Encoder.forward gives."""

    def __init__(self, encoder: Encoder) -> None:
        """Share the encoder's weights."""
        self.embeddings = encoder.embeddings
        self.position = encoder.position
        self.layers = nnx.List(apart(encoder))
        self.attention = encoder.attention

    def forward(self, inputs: Inputs) -> Hidden:
        """The states after the last layer; for use inside jit, on prepared inputs."""
        place = Place(self.position, inputs.positions, inputs.segments)
        x = self.embeddings(inputs.ids, inputs.types, place)
        # Under a jit of its own a layer is traced once, not once for each.
        step = jax.jit(lambda layer, x, place: layer(x, place, self.attention))
        for layer in self.layers:
            x = step(layer, x, place)
        return x


def apart(encoder: Encoder) -> list[Layer]:
    """The layers one by one.

    On a CPU they are views of the stacked weights, as NumPy gives them and JAX takes them, where a
    layer's part begins at a multiple of 64 bytes; else copies.
    """
    leaves, tree = jax.tree.flatten(encoder.layers)
    layers = encoder.config.num_layers
    if any(leaf.ndim == 0 or leaf.shape[0] != layers for leaf in leaves):
        raise InputError(
            f"each weight of the layers needs a leading axis of {layers}, a row for each"
        )
    device = device_of(encoder.embeddings.word[...])
    rows = jax.device_put([list(np.asarray(leaf)) for leaf in leaves], device)
    return [jax.tree.unflatten(tree, same) for same in zip(*rows, strict=True)]
