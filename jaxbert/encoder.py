"""The encoder, bottom up: embeddings, self-attention, one layer, the stack of layers.

BERT: arXiv:1810.04805, section 3. JinaBERT: arXiv:2310.19923, section 3. Both are post-norm: a norm
follows each residual sum, and none follows the last layer.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from jaxbert import checkpoint, hub
from jaxbert.arguments import integer, names
from jaxbert.attention import Attend, attend, dense, probabilities
from jaxbert.axes import Hidden, Ids, Keys, Positions, Queries, Scores, Segments, Types, Values
from jaxbert.backend import computing, device_of
from jaxbert.config import EncoderConfig
from jaxbert.copyable import Copyable
from jaxbert.inputs import Given, Inputs, Perhaps, check_dtype, check_heads, check_parts, prepare
from jaxbert.layers import LayerNorm, Projection, lookup
from jaxbert.loading import load, weights
from jaxbert.memory import check_memory
from jaxbert.modules import transformer_folder
from jaxbert.parts import MakeFeedForward, Parts, parts
from jaxbert.pieces import in_pieces
from jaxbert.position import Position
from jaxbert.saving import save_encoder


class Place(NamedTuple):
    """Where the tokens of a batch stand, and the scheme that says what this means."""

    scheme: Position
    positions: Positions
    segments: Segments


class Embeddings(nnx.Module):
    """LayerNorm(word[id] + type[type id], with the position scheme's own term added)."""

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs) -> None:
        """Draw both tables."""
        sizes = config.sizes

        def draw(rows: str) -> nnx.Param[jax.Array]:
            noise = jax.random.normal(rngs.params(), (sizes[rows], sizes["d"]), jnp.float32)
            return nnx.Param(config.initializer_range * noise)

        self.word, self.token_type = draw("v"), draw("k")
        self.norm = LayerNorm(sizes, config.layer_norm_eps)

    @jax.named_scope("embeddings")
    def __call__(self, ids: Ids, types: Types, place: Place) -> Hidden:
        """An id that the tables do not have becomes NaN."""
        x = lookup(self.word[...], ids) + lookup(self.token_type[...], types)
        return self.norm(place.scheme.embed(x, place.positions))


class SelfAttention(nnx.Module):
    """Tokens look at tokens: softmax(q k^T / sqrt(h) + bias) v, heads joined and projected."""

    def __init__(self, config: EncoderConfig, made: Parts, *, rngs: nnx.Rngs) -> None:
        """Draw the four products; the norms of q and k are made.head_norm's, mostly identity."""

        def project(spec: str) -> Projection:
            return Projection(spec, config.sizes, rngs=rngs, std=config.initializer_range)

        self.query, self.key, self.value = (project("btd,dnh->bnth") for _ in range(3))
        self.out = project("bnth,nhd->btd")
        self.query_norm, self.key_norm = made.head_norm(), made.head_norm()

    def heads(self, x: Hidden, place: Place) -> tuple[Queries, Keys, Values]:
        """Queries, keys and values, with the scheme's rotation on the first two."""
        q, k, v = (product(x).astype(x.dtype) for product in (self.query, self.key, self.value))
        q = place.scheme.rotate(self.query_norm(q), place.positions)
        k = place.scheme.rotate(self.key_norm(k), place.positions)
        return q, k, v

    @jax.named_scope("attention")
    def __call__(self, x: Hidden, place: Place, attention: Attend) -> Hidden:
        """attention computes the context; place says who may see whom, and from where."""
        q, k, v = self.heads(x, place)
        context = attention(q, k, v, place.scheme.bias, place.positions, place.segments)
        return self.out(context).astype(x.dtype)


class Layer(nnx.Module):
    """a = norm(x + attention(x)); r = rejoin(x, a); norm(r + feed_forward(r))."""

    def __init__(self, config: EncoderConfig, made: Parts, *, rngs: nnx.Rngs) -> None:
        """Draw all weights of one layer."""
        self.attention = SelfAttention(config, made, rngs=rngs)
        self.attention_norm = LayerNorm(config.sizes, config.layer_norm_eps)
        self.rejoin = made.rejoin()
        self.feed_forward = made.feed_forward(rngs)
        self.output_norm = LayerNorm(config.sizes, config.layer_norm_eps)

    def __call__(self, x: Hidden, place: Place, attention: Attend) -> Hidden:
        """The states after this layer."""
        a = self.attention_norm(x + self.attention(x, place, attention))
        r = self.rejoin(x, a)
        with jax.named_scope("feed_forward"):
            return in_pieces(lambda r: self.output_norm(r + self.feed_forward(r)), r)


class Encoder(Copyable):
    """Embeddings and l equal layers, whose weights are stacked on a leading axis l and scanned."""

    def __init__(
        self,
        config: EncoderConfig,
        *,
        rngs: nnx.Rngs,
        position: Position | None = None,
        feed_forward: MakeFeedForward | None = None,
        attention: Attend | None = None,
    ) -> None:
        """Random weights; the parts that config names, or those given here.

        feed_forward is called with rngs once per layer, for each layer has weights of its own.
        """
        check_parts(config, rngs, position, feed_forward, attention)
        made = parts(config)
        if feed_forward is not None:
            made = made._replace(feed_forward=feed_forward)
        layers = [Layer(config, made, rngs=rngs) for _ in range(config.num_layers)]
        self.config = config
        self.embeddings = Embeddings(config, rngs=rngs)
        self.position = made.position(rngs) if position is None else position
        check_heads(self.position, config.num_heads)
        self.layers = jax.tree.map(lambda *same: jnp.stack(same), *layers)
        self.attention = attend if attention is None else attention

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        revision: str | None = None,
        token: str | None = None,
        ignore_config: Sequence[str] = (),
    ) -> "Encoder":
        """The encoder of a Hugging Face folder or hub name, every tensor accounted for.

        dtype is that of the weights here, float32 whatever is stored. Raises CheckpointError for
        anything missing, left over, misshapen, not finite or not understood; ignore_config names
        keys of config.json that may be passed over. attention=None chooses by length and platform.
        """
        ignore_config = names(ignore_config, "ignore_config")
        folder = transformer_folder(hub.resolve(name, revision=revision, token=token))
        stored = checkpoint.open_folder(folder, ignore_config=ignore_config)
        return cls.from_checkpoint(stored, dtype=dtype, attention=attention)

    @classmethod
    def from_checkpoint(
        cls,
        stored: checkpoint.Checkpoint,
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        device: jax.Device | None = None,
    ) -> "Encoder":
        """The encoder that an opened checkpoint describes, with its weights."""
        dtype = check_dtype(dtype)
        return load(stored, lambda c: cls(c, rngs=nnx.Rngs(0), attention=attention), dtype, device)

    def weights(self) -> dict[str, jax.Array]:
        """Every weight by its path, such as layers.attention.query.weight with leading axis l."""
        return weights(self)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write config.json and model.safetensors in place of another encoder's.

        Raises CheckpointError before anything is written for parts that these cannot describe and
        for a folder with a tokenizer or pooling of a whole model; WriteError.
        """
        with computing():
            save_encoder(self, lambda config: Encoder(config, rngs=nnx.Rngs(0)), folder)

    def layer(self, i: int) -> Layer:
        """Layer i by itself."""
        index = integer(i, "layer", -self.config.num_layers, self.config.num_layers - 1)
        return jax.tree.map(lambda stacked: stacked[index], self.layers)

    def run(self, function: Callable[..., Any], attention: Attend, *texts: Any) -> Any:
        """function(self, inputs) of what callers pass, if the device can hold it."""
        with computing():
            inputs, word = prepare(self.config, self.position.limit, *texts), self.embeddings.word
            if not isinstance(inputs.ids, jax.core.Tracer):  # a trace may be for another device
                (b, t), device = inputs.ids.shape, device_of(word[...])
                check_memory(self.config, attention, word[...].dtype, b, t, device)
            return function(self, inputs)

    def forward(self, inputs: Inputs) -> Hidden:
        """The states after the last layer; for use inside jit, on prepared inputs."""
        place = Place(self.position, inputs.positions, inputs.segments)
        x = self.embeddings(inputs.ids, inputs.types, place)
        return jax.lax.scan(lambda x, at: (at(x, place, self.attention), None), x, self.layers)[0]

    def forward_states(self, inputs: Inputs) -> tuple[Hidden, Float[Array, "l b t d"]]:
        """The states after the embeddings, and those after each layer."""
        place = Place(self.position, inputs.positions, inputs.segments)
        x = self.embeddings(inputs.ids, inputs.types, place)
        return x, jax.lax.scan(lambda x, at: (at(x, place, self.attention),) * 2, x, self.layers)[1]

    def forward_attentions(self, inputs: Inputs) -> list[Scores]:
        """The attention probabilities of each layer, by the dense definition."""
        place = Place(self.position, inputs.positions, inputs.segments)
        x, maps = self.embeddings(inputs.ids, inputs.types, place), []
        for layer in map(self.layer, range(self.config.num_layers)):
            q, k, _ = layer.attention.heads(x, place)
            maps.append(probabilities(q, k, place.scheme.bias, place.positions, place.segments))
            x = layer(x, place, self.attention)
        return maps

    def __call__(
        self,
        input_ids: Given,
        attention_mask: Perhaps = None,
        token_type_ids: Perhaps = None,
        *,
        segment_ids: Perhaps = None,
        positions: Perhaps = None,
    ) -> Hidden:
        """The last states [b, t, d]; rows of padding hold numbers that mean nothing.

        NumPy or JAX integers [b, t]; a mask of 0 and 1, or segment_ids (0: padding) for several
        texts in a row. Raises InputError for ids outside the vocabulary and for texts beyond a
        learned table of positions.
        """
        texts = (input_ids, attention_mask, token_type_ids, segment_ids, positions)
        return self.run(_forward, self.attention, *texts)

    def hidden_states(
        self, input_ids: Given, attention_mask: Perhaps = None, token_type_ids: Perhaps = None
    ) -> list[Hidden]:
        """The states after the embeddings and after each layer: l + 1 arrays [b, t, d]."""
        texts = (input_ids, attention_mask, token_type_ids)
        first, rest = self.run(_forward_states, self.attention, *texts)
        return [first, *rest]

    def attentions(
        self, input_ids: Given, attention_mask: Perhaps = None, token_type_ids: Perhaps = None
    ) -> list[Scores]:
        """Who looks at whom: one array [b, n, t, s] per layer, rows summing to one (float32)."""
        return self.run(_forward_attentions, dense, input_ids, attention_mask, token_type_ids)


_forward = jax.jit(Encoder.forward)
_forward_states = jax.jit(Encoder.forward_states)
_forward_attentions = jax.jit(Encoder.forward_attentions)
