"""What only the qk-norm variants of JinaBERT have.

Source: the remote code jinaai/jina-bert-v2-qk-post-norm; LayerNorm of queries and keys as in Henry
et al., arXiv:2010.04245, but over all heads together.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.model.axes import Hidden, Queries, Sizes
from jaxbert.model.layers import LayerNorm, layer_norm


class Identity(nnx.Module):
    """x -> x: the norm of queries and keys, or after the last layer, in an encoder without one."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the argument."""
        return x


class QueryKeyNorm(nnx.Module):
    """layer_norm over all heads together: the axes n and h of `b n t h`."""

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Start as the plain normalisation: scale one, shift zero."""
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((sizes["n"], sizes["h"]), jnp.float32))
        self.shift = nnx.Param(jnp.zeros((sizes["n"], sizes["h"]), jnp.float32))

    def __call__(self, q: Queries) -> Queries:
        """Normalise each token's queries (or keys) over their whole width."""
        scale, shift = self.scale[...][None, :, None, :], self.shift[...][None, :, None, :]
        return layer_norm(q, scale, shift, self.eps, (-3, -1))


class SecondResidual(nnx.Module):
    """(x, a) -> LayerNorm(x + a): the layer's input x is added a second time."""

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Make the norm, as the plain normalisation."""
        self.norm = LayerNorm(sizes, eps)

    def __call__(self, x: Hidden, a: Hidden) -> Hidden:
        """Add and normalise."""
        return self.norm(x + a)


class NoSecondResidual(nnx.Module):
    """(x, a) -> a: what the feed-forward reads in every other encoder."""

    def __call__(self, x: Hidden, a: Hidden) -> Hidden:
        """Return a, the output of the attention block."""
        return a
