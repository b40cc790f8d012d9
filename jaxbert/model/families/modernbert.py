"""ModernBERT: pre-norm, gated, rotary; every third layer sees the whole text, the others a window.

There is no bias and no shift anywhere, and the first layer reads the normed embeddings as they are.
Source: Warner et al., arXiv:2412.13663, section 2.1; transformers' ModernBertModel.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.activations import ACTIVATIONS, Activation
from jaxbert.model.architecture import Architecture
from jaxbert.model.attention import Attend
from jaxbert.model.attention.dense import LOWEST
from jaxbert.model.axes import Hidden, Mask, Pooled, Sizes
from jaxbert.model.components import Components
from jaxbert.model.config import ActivationName, EncoderConfig, FeedForwardName, PositionName
from jaxbert.model.families.embeddings import UntypedEmbeddings
from jaxbert.model.head import LabelHead, label_logits
from jaxbert.model.layer_variants import PreNormLayer
from jaxbert.model.layers import Glu, Projection, layer_norm
from jaxbert.model.position import Bias, HeadBias, KeyPositions, Position, QueryPositions
from jaxbert.model.position_schemes import Rope
from jaxbert.model.transformer import AttentionMetadata, SelfAttention


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """The sizes of a ModernBERT, and which of its layers see how far.

    Layers 0, global_every, 2 global_every ... attend to the whole text, the others to tokens at
    most local_distance away.
    """

    positions: ClassVar[tuple[str, ...]] = ("rope",)

    position: PositionName = "rope"
    feed_forward: FeedForwardName = "glu"
    activation: ActivationName = "gelu"
    type_vocab_size: int = 0
    max_positions: int = 8192
    layer_norm_eps: float = 1e-5
    global_every: int = 3
    local_distance: int = 64
    global_rope_base: float = 160_000.0
    local_rope_base: float = 10_000.0


class ScaleNorm(nnx.Module):
    """(x - mean) / sqrt(variance + eps) * scale over the model width: a LayerNorm without shift."""

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Initialise scale [d] to one."""
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((sizes["d"],), jnp.float32))

    def __call__(self, x: Hidden) -> Hidden:
        """Normalise each token's state over its d features."""
        scale = self.scale[...][None, None]
        return layer_norm(x, scale, jnp.zeros_like(scale), self.eps, (-1,))


class WindowBias(Bias):
    """0 for keys at most `most` positions away; so low that the others have no weight."""

    def __init__(self, most: Float[Array, " n"]) -> None:
        """most [n] is one distance for each head."""
        self.most = most

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of every pair of one head, in float32."""
        return self.upper(jnp.abs(pos_q[:, None] - pos_k[None, :]))

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The term itself, since it never rises with the distance."""
        return jnp.where(distance.astype(jnp.float32) <= self.most, 0.0, LOWEST)


class WindowedRope(Rope):
    """Rotary positions, and attention to what is at most `most` away."""

    def __init__(self, base: jax.Array, most: jax.Array, num_heads: int) -> None:
        """base sets how fast the angles fall; most is a distance, both for one layer."""
        super().__init__(base)
        self.most = most
        self.num_heads = num_heads

    @property
    def bias(self) -> Bias:  # type: ignore[override]
        """The bias that keeps attention within the window."""
        return WindowBias(jnp.full((self.num_heads,), self.most, jnp.float32))


class AlternatingAttention(SelfAttention):
    """Self-attention whose rotation and window depend on the layer's number."""

    def __init__(self, components: Components, *, rngs: nnx.Rngs, config: ModernBertConfig) -> None:
        """Draw the four projections; config says which layers see how far."""
        super().__init__(components, rngs=rngs)
        # Without the number of layers, so that those of two depths are compared as equals.
        self.config = replace(config, num_layers=1)

    def scheme(self, layer: Any) -> WindowedRope:
        """The position scheme of the layer of this number."""
        config, everywhere = self.config, layer % self.config.global_every == 0
        base = jnp.where(everywhere, config.global_rope_base, config.local_rope_base)
        most = jnp.where(everywhere, jnp.inf, config.local_distance)
        return WindowedRope(base, most, config.num_heads)

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The projected context [b, t, d]."""
        scheme = self.scheme(metadata.layer)
        return super().__call__(x, metadata._replace(scheme=scheme), attention)


class ModernBertLayer(PreNormLayer):
    """A pre-norm layer; the first one has no norm before its attention.

    All layers have the weights of that norm, so that they can be scanned; those of the first are
    never read.
    """

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The states after this layer, [b, t, d]."""
        normed = jnp.where(jnp.equal(metadata.layer, 0), x, self.attention_norm(x))
        return self.feed_on(x + self.attention(normed, metadata, attention).astype(x.dtype))


def modernbert(config: ModernBertConfig) -> Architecture:
    """The components of a ModernBERT; its schemes are those of the layers."""
    sizes, std = config.sizes, config.initializer_range
    norm = partial(ScaleNorm, sizes, config.layer_norm_eps)
    components = Components(
        position=lambda rngs: Position(),
        projection=partial(Projection, sizes=sizes, std=std, use_bias=False),
        feed_forward=partial(Glu, sizes, ACTIVATIONS[config.activation], std=std, down_bias=False),
        norm=norm,
        final_norm=norm,
    )
    layer = partial(ModernBertLayer, attention=partial(AlternatingAttention, config=config))
    return Architecture.of_equal_layers(components, config.num_layers, layer, UntypedEmbeddings)


class ModernBertClassifier(LabelHead):
    """C norm(act(W pool(x))) + c: the logits of a text, or of a pair.

    Source: transformers' ModernBertPredictionHead and ModernBertForSequenceClassification.
    """

    def __init__(
        self,
        config: EncoderConfig,
        labels: int,
        *,
        rngs: nnx.Rngs,
        std: float,
        activation: Activation,
        pool: Callable[[Hidden, Mask], Pooled],
    ) -> None:
        """Draw the dense layer [d, d], which has no bias, and the classifier [d, labels]."""
        sizes = {**config.sizes, "e": config.hidden_size}
        self.pool, self.activation = pool, activation
        self.dense = Projection("btd,de->bte", sizes, rngs=rngs, std=std, use_bias=False)
        self.norm = ScaleNorm(sizes, config.layer_norm_eps)
        shape = (config.hidden_size, labels)
        self.weight = nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((labels,), jnp.float32))

    @jax.named_scope("classifier")
    def __call__(self, x: Hidden, mask: Mask) -> jax.Array:
        """The logits [b, labels] in float32, from the states where mask is true."""
        pooled = self.pool(x, mask)[:, None]
        state = self.norm(self.activation(self.dense(pooled)))[:, 0]
        return label_logits(state, self.weight[...], self.bias[...])
