"""The model, bottom up: embeddings, self-attention, one layer, the stack of layers.

BERT: arXiv:1810.04805, section 3. JinaBERT: arXiv:2310.19923, section 3. Both are post-norm: a norm
follows each residual sum, and none follows the last layer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxbert.errors import InputError
from jaxbert.model.attention import Attend, attend, probabilities
from jaxbert.model.axes import (
    Hidden,
    Ids,
    Keys,
    Positions,
    Queries,
    Scores,
    Segments,
    Types,
    Values,
)
from jaxbert.model.chunked import chunked
from jaxbert.model.components import Components, MakeFeedForward, components_of
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import Projection, lookup
from jaxbert.model.position import Position, check_heads


class Inputs(NamedTuple):
    """What an encoder reads, each an int32 array."""

    ids: Ids
    segments: Segments
    types: Types
    positions: Positions


class AttentionMetadata(NamedTuple):
    """Where the tokens of a batch stand, and the scheme that says what this means."""

    scheme: Position
    positions: Positions
    segments: Segments


class Embeddings(nnx.Module):
    """norm(word[id] + type[type id], with the position scheme's own term added)."""

    def __init__(self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs) -> None:
        """Draw both tables."""
        sizes = config.sizes

        def draw(rows: str) -> nnx.Param[jax.Array]:
            noise = jax.random.normal(rngs.params(), (sizes[rows], sizes["d"]), jnp.float32)
            return nnx.Param(config.initializer_range * noise)

        self.word, self.token_type = draw("v"), draw("k")
        self.norm = components.norm()

    @jax.named_scope("embeddings")
    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; an id that the tables do not have becomes NaN."""
        x = lookup(self.word[...], inputs.ids) + lookup(self.token_type[...], inputs.types)
        return self.norm(scheme.embed(x, inputs.positions))


class SelfAttention(nnx.Module):
    """Tokens look at tokens: softmax(q k^T / sqrt(h) + bias) v, heads joined and projected."""

    def __init__(
        self,
        config: EncoderConfig,
        components: Components,
        *,
        rngs: nnx.Rngs,
        use_bias: bool = True,
    ) -> None:
        """Draw the four projections; the norms of queries and keys are mostly the identity."""
        std = config.initializer_range

        def project(spec: str) -> Projection:
            return Projection(spec, config.sizes, rngs=rngs, std=std, use_bias=use_bias)

        self.query, self.key, self.value = (project("btd,dnh->btnh") for _ in range(3))
        self.out = project("bnth,nhd->btd")
        self.query_norm, self.key_norm = components.query_norm(), components.key_norm()

    def heads(self, x: Hidden, metadata: AttentionMetadata) -> tuple[Queries, Keys, Values]:
        """Queries, keys and values by head, with the scheme's rotation on the first two."""
        scheme, positions, _ = metadata
        projections = (self.query, self.key, self.value)
        q, k, v = (jnp.swapaxes(project(x), 1, 2).astype(x.dtype) for project in projections)
        q = scheme.rotate(self.query_norm(q), positions)
        k = scheme.rotate(self.key_norm(k), positions)
        return q, k, v

    @jax.named_scope("attention")
    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """attention computes the context; the metadata say who may see whom, and from where."""
        scheme, positions, segments = metadata
        q, k, v = self.heads(x, metadata)
        context = attention(q, k, v, scheme.bias, positions, segments)
        return self.out(context).astype(x.dtype)

    def probabilities(self, x: Hidden, metadata: AttentionMetadata) -> Scores:
        """Who looks at whom, by the dense definition: rows over s sum to one."""
        scheme, positions, segments = metadata
        q, k, _ = self.heads(x, metadata)
        return probabilities(q, k, scheme.bias, positions, segments)


MakeSelfAttention = Callable[..., SelfAttention]


class Layer(nnx.Module):
    """a = norm(x + attention(x)); r = a, or norm(x + a); norm(r + feed_forward(r))."""

    def __init__(
        self,
        config: EncoderConfig,
        components: Components,
        *,
        rngs: nnx.Rngs,
        attention: MakeSelfAttention = SelfAttention,
    ) -> None:
        """Draw all weights of one layer."""
        self.attention = attention(config, components, rngs=rngs)
        self.attention_norm = components.norm()
        self.rejoin = components.second_residual()
        self.feed_forward = components.feed_forward(rngs)
        self.output_norm = components.norm()

    def attention_input(self, x: Hidden) -> Hidden:
        """What self-attention reads: the states as they come."""
        return x

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The states after this layer."""
        a = self.attention_norm(x + self.attention(x, metadata, attention))
        r = self.rejoin(x, a)
        with jax.named_scope("feed_forward"):
            return chunked(lambda r: self.output_norm(r + self.feed_forward(r)), r)


def start(embeddings: Any, scheme: Position, inputs: Inputs) -> tuple[Hidden, AttentionMetadata]:
    """The states before the first layer, and what all layers go by."""
    metadata = AttentionMetadata(scheme, inputs.positions, inputs.segments)
    return embeddings(inputs, scheme), metadata


# Called as the classes Layer and Embeddings are.
MakeLayer = Callable[..., Any]
MakeEmbeddings = Callable[..., Any]


def stacked(layers: Sequence[Any], number: int) -> Any:
    """One layer whose weights have the leading axis l; all must be built alike to be scanned."""
    if len(layers) != number:
        raise InputError(f"there are {len(layers)} layers where the config says {number}")
    structure: Any = jax.tree.structure(layers[0])
    for i, layer in enumerate(layers):
        if jax.tree.structure(layer) != structure:
            raise InputError(
                f"layer {i} is built otherwise than layer 0, so they cannot be scanned; make what "
                "differs an array in both"
            )
    return jax.tree.map(lambda *same: jnp.stack(same), *layers)


class Transformer(nnx.Module):
    """Embeddings and l layers of one structure, whose weights are stacked on a leading axis l."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        rngs: nnx.Rngs,
        position: Position | None = None,
        feed_forward: MakeFeedForward | None = None,
        attention: Attend | None = None,
        components: Components | None = None,
        embeddings: MakeEmbeddings = Embeddings,
        layers: Sequence[MakeLayer] | None = None,
    ) -> None:
        """Random weights; what config names, or what is given here.

        feed_forward is called with rngs once per layer. components replaces all that config names.
        embeddings and layers (one maker for each layer) are called as the classes here are:
        layer_variants.py has pre-norm layers, and layers with position schemes of their own.
        """
        components = components_of(config) if components is None else components
        if feed_forward is not None:
            components = components._replace(feed_forward=feed_forward)
        makers = [Layer] * config.num_layers if layers is None else layers
        own = [make(config, components, rngs=rngs) for make in makers]
        self.config = config
        self.embeddings = embeddings(config, components, rngs=rngs)
        self.position = components.position(rngs) if position is None else position
        check_heads(self.position, config.num_heads)
        self.layers = stacked(own, config.num_layers)
        self.final_norm = components.final_norm()
        self.attention = attend if attention is None else attention

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the weights, which the states between layers have too."""
        return jax.tree.leaves(self.layers)[0].dtype

    def layer(self, i: int) -> Any:
        """Layer i by itself."""
        return jax.tree.map(lambda stacked: stacked[i], self.layers)

    def forward(self, inputs: Inputs) -> Hidden:
        """The states after the last layer; for use inside jit, on prepared inputs."""
        x, metadata = start(self.embeddings, self.position, inputs)

        def step(x: Hidden, layer: nnx.Module) -> tuple[Hidden, None]:
            return layer(x, metadata, self.attention), None

        return self.final_norm(jax.lax.scan(step, x, self.layers)[0])

    def forward_states(self, inputs: Inputs) -> tuple[Hidden, Float[Array, "l b t d"]]:
        """The states after the embeddings, and those after each layer (without the final norm)."""
        first, metadata = start(self.embeddings, self.position, inputs)

        def step(x: Hidden, layer: nnx.Module) -> tuple[Hidden, Hidden]:
            x = layer(x, metadata, self.attention)
            return x, x

        return first, jax.lax.scan(step, first, self.layers)[1]

    def forward_attentions(self, inputs: Inputs) -> list[Scores]:
        """The attention probabilities of each layer, by the dense definition."""
        x, metadata = start(self.embeddings, self.position, inputs)
        maps = []
        for layer in map(self.layer, range(self.config.num_layers)):
            maps.append(layer.attention.probabilities(layer.attention_input(x), metadata))
            x = layer(x, metadata, self.attention)
        return maps
