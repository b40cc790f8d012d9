"""Layers that BERT and JinaBERT do not have: pre-norm layers, and a position scheme per layer.

T5 and ModernBERT use them; they are passed to a Transformer as `layers`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.errors import InputError
from jaxbert.model.attention import Attend, check_heads
from jaxbert.model.axes import Hidden, Sizes
from jaxbert.model.chunked import chunked
from jaxbert.model.components import Components, Make
from jaxbert.model.position import Position
from jaxbert.model.transformer import AttentionMetadata, SelfAttention


class RmsNorm(nnx.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the model width, in float32.

    Source: Zhang and Sennrich, arXiv:1910.07467, section 4; T5 has it.
    """

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Initialise scale [d] to one; there is no shift."""
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((sizes["d"],), jnp.float32))

    def __call__(self, x: Hidden) -> Hidden:
        """Normalise each token's state, without subtracting a mean; in the dtype of scale."""
        wide, scale = x.astype(jnp.float32), self.scale[...][None, None]
        power = jnp.square(wide).mean(-1, keepdims=True)
        normed = wide * jax.lax.rsqrt(power + self.eps)
        return (normed * scale.astype(jnp.float32)).astype(scale.dtype)


class PreNormLayer(nnx.Module):
    """a = x + attention(norm(x)); a + feed_forward(norm(a)).

    Source: Xiong et al., arXiv:2002.04745, figure 1; T5 and ModernBERT have it, and a norm after
    the last layer (Components.final_norm).
    """

    def __init__(
        self, components: Components, *, rngs: nnx.Rngs, attention: Make = SelfAttention
    ) -> None:
        """Draw the weights of one layer."""
        self.attention_norm = components.norm()
        self.attention = attention(components, rngs=rngs)
        self.feed_forward_norm = components.norm()
        self.feed_forward = components.feed_forward(rngs=rngs)

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The states after this layer, [b, t, d]."""
        a = self.attention(self.attention_norm(x), metadata, attention)
        return self.feed_on(x + a.astype(x.dtype))

    def feed_on(self, a: Hidden) -> Hidden:
        """a + feed_forward(norm(a)), [b, t, d], in a's dtype, which may be wider than weights."""

        def step(a: Hidden) -> Hidden:
            return a + self.feed_forward(self.feed_forward_norm(a)).astype(a.dtype)

        with jax.named_scope("feed_forward"):
            return chunked(step, a)


class LayerScheme(SelfAttention):
    """Self-attention with a position scheme for this layer alone, in place of the shared one.

    The schemes of all layers must be of one class, so that layers can be scanned: what differs,
    such as the width of a window or the base of a rotation, is an array in the scheme. The shared
    scheme still adds its embeddings to the states; pass components with Position to have none.
    """

    def __init__(self, components: Components, *, rngs: nnx.Rngs, scheme: Position) -> None:
        """Draw the projections; scheme rotates queries and keys and has a bias.

        Raises InputError for a scheme with embeddings or a limit, which act before any layer.
        """
        super().__init__(components, rngs=rngs)
        check_heads(scheme, self.query.weight.shape[1])
        if type(scheme).embed is not Position.embed or scheme.limit is not None:
            raise InputError(
                f"{type(scheme).__name__} adds embeddings or has a limit, which a layer cannot; "
                "pass it to the encoder as position"
            )
        self.scheme = scheme

    def __call__(self, x: Hidden, metadata: AttentionMetadata, attention: Attend) -> Hidden:
        """The projected context [b, t, d], by this layer's scheme."""
        return super().__call__(x, metadata._replace(scheme=self.scheme), attention)
