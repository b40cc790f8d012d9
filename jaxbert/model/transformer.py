"""The model, bottom up: embeddings, self-attention, one layer, all layers.

BERT: arXiv:1810.04805, section 3. JinaBERT: arXiv:2310.19923, section 3. Both are post-norm: a norm
follows each residual sum, and none follows the last layer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.attention import Attend, attend, check_heads, probabilities
from jaxbert.model.axes import Heads, Hidden, Ids, Positions, Queries, Scores, Segments, Types
from jaxbert.model.chunked import chunked
from jaxbert.model.components import Components, Make, bert_components
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import lookup
from jaxbert.model.module import stack_layers
from jaxbert.model.position import Position


class Inputs(NamedTuple):
    """The int32 arrays that a forward pass takes."""

    ids: Ids
    segments: Segments
    types: Types
    positions: Positions


class AttentionMetadata(NamedTuple):
    """What a layer knows of its tokens: positions, segments, the scheme, and its own number."""

    scheme: Position
    positions: Positions
    segments: Segments
    layer: Int[Array, ""] | int = 0  # for layers that differ by their number, as ModernBERT's


class Embeddings(nnx.Module):
    """norm(word[id] + type[type id] + what the position scheme adds)."""

    def __init__(self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs) -> None:
        """Draw the tables of words [v, d] and of token types [k, d]."""

        def table(rows: str) -> nnx.Param[jax.Array]:
            shape = (config.sizes[rows], config.sizes["d"])
            noise = jax.random.normal(rngs.params(), shape, jnp.float32)
            return nnx.Param(config.initializer_range * noise)

        self.word, self.token_type = table("v"), table("k")
        self.norm = components.norm()

    @jax.named_scope("embeddings")
    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; NaN for an id that the tables do not have."""
        x = lookup(self.word[...], inputs.ids) + lookup(self.token_type[...], inputs.types)
        return self.norm(scheme.embed(x, inputs.positions))


class SelfAttention(nnx.Module):
    """softmax(q k^T / sqrt(h) + bias) v by head, then the heads joined and projected."""

    def __init__(self, components: Components, *, rngs: nnx.Rngs) -> None:
        """Draw the four projections; in most encoders the two norms are the identity."""
        project = components.projection
        self.query, self.key, self.value = (project("btd,dnh->btnh", rngs=rngs) for _ in range(3))
        self.out = project("btnh,nhd->btd", rngs=rngs)
        self.query_norm, self.key_norm = components.query_norm(), components.key_norm()

    def projected(self, projection: Any, x: Hidden) -> Queries:
        """The queries, keys or values [b, n, t, h] of states, in their dtype."""
        return jnp.swapaxes(projection(x), 1, 2).astype(x.dtype)

    def joined(self, context: Queries) -> Hidden:
        """The projection of a context [b, n, t, h], whose heads are joined, in float32."""
        return self.out(jnp.swapaxes(context, 1, 2))

    def queries(self, x: Hidden, scheme: Position, positions: Positions) -> Queries:
        """The queries of states at these positions, normed and rotated."""
        return scheme.rotate_query(self.query_norm(self.projected(self.query, x)), positions)

    def heads(self, x: Hidden, metadata: AttentionMetadata) -> Heads:
        """Queries, keys and values by head, with the scheme's rotation on the first two."""
        scheme, positions = metadata.scheme, metadata.positions
        q = self.queries(x, scheme, positions)
        k = scheme.rotate_key(self.key_norm(self.projected(self.key, x)), positions)
        return q, k, self.projected(self.value, x)

    @jax.named_scope("attention")
    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The projected context; segments in metadata say which tokens attend to which."""
        scheme, positions, segments, _ = metadata
        context = attention(*self.heads(x, metadata), scheme.bias, positions, segments)
        return self.joined(context).astype(x.dtype)


class Layer(nnx.Module):
    """a = norm(x + attention(x)); r = a, or norm(x + a); norm(r + feed_forward(r))."""

    def __init__(
        self, components: Components, *, rngs: nnx.Rngs, attention: Make = SelfAttention
    ) -> None:
        """Draw the weights of one layer."""
        self.attention = attention(components, rngs=rngs)
        self.attention_norm = components.norm()
        self.rejoin = components.second_residual()
        self.feed_forward = components.feed_forward(rngs=rngs)
        self.output_norm = components.norm()

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The states after this layer, [b, t, d]."""
        return self.rest(x, self.attention(x, metadata, attention))

    def rest(self, x: Hidden, context: Hidden) -> Hidden:
        """The states after this layer of tokens [b, t, d] whose projected context is known."""
        a = self.attention_norm(x + context)
        r = self.rejoin(x, a)
        with jax.named_scope("feed_forward"):
            return chunked(lambda r: self.output_norm(r + self.feed_forward(r)), r)


class Transformer(nnx.Module):
    """Embeddings and l layers; `layers` is one Layer whose weights have the leading axis l."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        rngs: nnx.Rngs,
        components: Components | None = None,
        attention: Attend | None = None,
        layers: Sequence[Make] | None = None,
        embeddings: Make = Embeddings,
    ) -> None:
        """Random weights; components None is bert_components(config), layers None is Layer for all.

        A maker of a layer is called as maker(components, rngs=), the layer as layer(x, metadata,
        attention); layer_variants.py has others.
        """
        components = bert_components(config) if components is None else components
        makers = [Layer] * config.num_layers if layers is None else layers
        self.config = config
        self.layers = stack_layers([make(components, rngs=rngs) for make in makers], config)
        self.embeddings = embeddings(config, components, rngs=rngs)
        self.position = components.position(rngs=rngs)
        self.final_norm = components.final_norm()
        self.attention = attend if attention is None else attention
        check_heads(self.position, config.num_heads)

    def layer(self, i: int) -> Any:
        """Layer i, without the leading axis l."""
        return jax.tree.map(lambda stacked: stacked[i], self.layers)

    def numbered_layers(self) -> tuple[Any, Int[Array, " l"]]:
        """The layers with their numbers 0 ... l - 1, for a scan."""
        return self.layers, jnp.arange(self.config.num_layers, dtype=jnp.int32)

    def forward_embeddings(self, inputs: Inputs) -> tuple[Hidden, AttentionMetadata]:
        """The states before the first layer, and the metadata that all layers share."""
        metadata = AttentionMetadata(self.position, inputs.positions, inputs.segments)
        return self.embeddings(inputs, self.position), metadata

    def forward(self, inputs: Inputs) -> Hidden:
        """The states after the last layer; for use inside jit, on prepared inputs."""
        x, metadata = self.forward_embeddings(inputs)

        def step(x: Hidden, numbered: tuple[nnx.Module, Any]) -> tuple[Hidden, None]:
            layer, i = numbered
            return layer(x, metadata._replace(layer=i), self.attention), None

        return self.final_norm(jax.lax.scan(step, x, self.numbered_layers())[0])

    def forward_states(self, inputs: Inputs) -> tuple[Hidden, Float[Array, "l b t d"]]:
        """The states after the embeddings, and those after each layer, the last one final-normed.

        Source: transformers counts hidden_states so.
        """
        first, metadata = self.forward_embeddings(inputs)

        def step(x: Hidden, numbered: tuple[nnx.Module, Any]) -> tuple[Hidden, Hidden]:
            layer, i = numbered
            x = layer(x, metadata._replace(layer=i), self.attention)
            return x, x

        last, states = jax.lax.scan(step, first, self.numbered_layers())
        return first, states.at[-1].set(self.final_norm(last).astype(states.dtype))

    def forward_attentions(self, inputs: Inputs) -> list[Scores]:
        """The attention probabilities of each layer, by the dense definition."""
        x, metadata = self.forward_embeddings(inputs)
        maps = []

        def recording(q: Queries, k: Any, v: Any, *bias_and_metadata: Any) -> Queries:
            maps.append(probabilities(q, k, *bias_and_metadata))
            return self.attention(q, k, v, *bias_and_metadata)

        for i in range(self.config.num_layers):
            x = self.layer(i)(x, metadata._replace(layer=i), recording)
        return maps
