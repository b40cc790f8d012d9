"""Norms and residuals that only the qk-norm variants of JinaBERT have.

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
        """x unchanged, whatever its shape."""
        return x


class QueryKeyNorm(nnx.Module):
    """layer_norm over all heads together: the axes n and h of `b n t h`."""

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Initialise scale [n, h] to one and shift [n, h] to zero."""
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
        """Initialise the norm with scale one and shift zero."""
        self.norm = LayerNorm(sizes, eps)

    def __call__(self, x: Hidden, a: Hidden) -> Hidden:
        """The norm of the sum of both, [b, t, d]."""
        return self.norm(x + a)


class NoSecondResidual(nnx.Module):
    """(x, a) -> a: in every other encoder the feed-forward reads a as it is."""

    def __call__(self, x: Hidden, a: Hidden) -> Hidden:
        """The output a of the attention block, unchanged."""
        return a
