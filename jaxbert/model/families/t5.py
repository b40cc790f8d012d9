"""The encoder of T5: pre-norm with RMS norms, a relative bias, and scores that are not scaled.

It has no biases, no token types and no positions in the states. Its states are not normalised and
grow with depth, so that they are float32 whatever the dtype of the weights. Differs: transformers
clamps float16 states instead, after which a vector may depend on its batch.
Source: Raffel et al., arXiv:1910.10683, section 2.1; Shazeer, arXiv:2002.05202, for the gated one.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.architecture import Architecture
from jaxbert.model.axes import Hidden, Queries
from jaxbert.model.components import Components
from jaxbert.model.config import (
    LARGEST,
    ActivationName,
    EncoderConfig,
    FeedForwardName,
    PositionName,
)
from jaxbert.model.layer_variants import PreNormLayer, RmsNorm
from jaxbert.model.layers import Glu, Mlp, Projection, lookup
from jaxbert.model.position import Position
from jaxbert.model.position_schemes import T5Bias
from jaxbert.model.transformer import Inputs


@dataclass(frozen=True, kw_only=True)
class T5Config(EncoderConfig):
    """The sizes of a T5 encoder; head_width is free of the model width."""

    positions: ClassVar[tuple[str, ...]] = ("buckets",)

    head_width: int
    position: PositionName = "buckets"
    feed_forward: FeedForwardName = "mlp"
    activation: ActivationName = "relu"
    type_vocab_size: int = 0
    max_positions: int = LARGEST  # nothing in the model limits them
    layer_norm_eps: float = 1e-6
    initializer_range: float = 1.0
    num_buckets: int = 32
    max_distance: int = 128

    def check_heads(self) -> None:
        """Nothing, since any head_width goes with any model width."""

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis by its letter; r is the buckets."""
        return super().sizes | {"h": self.head_width, "r": self.num_buckets}


class WordEmbeddings(nnx.Module):
    """word[id] in float32, without a norm: what a T5 encoder begins with."""

    def __init__(self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs) -> None:
        """Draw the table of words [v, d]."""
        shape = (config.vocab_size, config.hidden_size)
        noise = jax.random.normal(rngs.params(), shape, jnp.float32)
        self.word = nnx.Param(config.initializer_range * noise)

    @jax.named_scope("embeddings")
    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; NaN for an id that the table does not have."""
        return lookup(self.word[...], inputs.ids).astype(jnp.float32)


class Unscaled(nnx.Module):
    """q sqrt(h): undoes the division of the scores that every implementation of attention does."""

    def __call__(self, q: Queries) -> Queries:
        """The queries [b, n, t, h], larger by the root of their width."""
        return (q.astype(jnp.float32) * q.shape[-1] ** 0.5).astype(q.dtype)


def t5(config: T5Config) -> Architecture:
    """The components of a T5 encoder, of pre-norm layers."""
    sizes, std = config.sizes, config.initializer_range
    norm = partial(RmsNorm, sizes, config.layer_norm_eps)
    activation: Any = ACTIVATIONS[config.activation]
    feed_forwards: dict[str, Any] = {
        "mlp": partial(Mlp, sizes, activation, std=std, use_bias=False, down_bias=False),
        "glu": partial(Glu, sizes, activation, std=std, down_bias=False),
    }
    components = Components(
        position=partial(
            T5Bias,
            config.num_heads,
            std=std,
            num_buckets=config.num_buckets,
            max_distance=config.max_distance,
        ),
        projection=partial(Projection, sizes=sizes, std=std, use_bias=False),
        feed_forward=feed_forwards[config.feed_forward],
        norm=norm,
        query_norm=Unscaled,
        final_norm=norm,
    )
    return Architecture.of_equal_layers(components, config.num_layers, PreNormLayer, WordEmbeddings)
