"""What is trained: an encoder with the head that an objective needs, as one pytree."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.axes import Hidden
from jaxbert.model.head import MaskedLanguageHead, PoolingHead
from jaxbert.model.transformer import Inputs, Transformer


class TextModel(nnx.Module):
    """An encoder and a pooling head: a vector of each text, as an Embedder computes it."""

    def __init__(self, encoder: Transformer, head: PoolingHead) -> None:
        """Put both together; they are shared, not copied."""
        self.encoder, self.head = encoder, head

    def __call__(self, inputs: Inputs) -> Float[Array, "b d"]:
        """The vectors of rows with one text each; tokens of segment 0 are padding."""
        return self.head(self.encoder.forward(inputs), inputs.segments != 0)


class MaskedModel(nnx.Module):
    """An encoder and the head that gives every token of the vocabulary a logit."""

    def __init__(self, encoder: Transformer, head: MaskedLanguageHead) -> None:
        """Put both together; a tied head multiplies by the encoder's word embeddings."""
        self.encoder, self.head = encoder, head

    def logits(self, hidden: Hidden, places: Int[Array, "b p"]) -> Float[Array, "b p v"]:
        """The logits of the tokens at these places alone, from the states of all."""
        states = jnp.take_along_axis(hidden, places[..., None], axis=1, mode="clip")
        return self.head(states, self.encoder.embeddings.word[...])
