"""Online softmax, over a row of scores that comes tile by tile: the step of every tiled attention.

After any number of keys the state of a query is top = max of the scores so far, total = sum of
exp(score - top), and context = sum of exp(score - top) v. A new tile may raise top; both sums are
then multiplied by exp(top_old - top_new). At the end the context is divided by total.
Source: Milakov and Gimelshein, arXiv:1805.02867, section 3; Rabe and Staats, arXiv:2112.05682.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Bool, Float, Int

from jaxbert.model.attention.dense import LOWEST, NO_KEYS
from jaxbert.model.position import Bias


class State(NamedTuple):
    """The running maximum, sum and context of t queries of one head, in float32."""

    top: Float[Array, "t 1"]
    total: Float[Array, "t 1"]
    context: Float[Array, "t h"]


def initial_state(t: int, h: int) -> State:
    """The state before the first key."""
    # Far above LOWEST, the score of a masked key: its exponential is 0 even before any other key.
    return State(
        jnp.full((t, 1), NO_KEYS, jnp.float32),
        jnp.zeros((t, 1), jnp.float32),
        jnp.zeros((t, h), jnp.float32),
    )


def precision(x: Float[Array, "..."]) -> Precision:
    """HIGHEST for float32; products of bfloat16 are exact anyway, and TPU kernels allow no more."""
    return Precision.HIGHEST if x.dtype == jnp.float32 else Precision.DEFAULT


def tile_products(
    q: Float[Array, "t h"], k: Float[Array, "s h"], width: int | None = None
) -> Float[Array, "t s"]:
    """q k^T / sqrt(h), in float32; width is h where q and k were padded with zeros."""
    products = jnp.einsum(
        "th,sh->ts", q, k, precision=precision(q), preferred_element_type=jnp.float32
    )
    return products * ((width or q.shape[-1]) ** -0.5)


def tile_scores(
    bias: Bias | None,
    products: Float[Array, "t s"],
    positions_q: Int[Array, " t"],
    positions_k: Int[Array, " s"],
) -> Float[Array, "t s"]:
    """The scores of a tile of one head, from q k^T / sqrt(h)."""
    return products if bias is None else bias.score(products, positions_q, positions_k)


def tile_mask(segments_q: Int[Array, " t"], segments_k: Int[Array, " s"]) -> Bool[Array, "t s"]:
    """attention_mask for a tile: True where both are in one segment other than 0."""
    return (segments_q[:, None] == segments_k[None, :]) & (segments_k != 0)[None, :]


def update(
    state: State,
    scores: Float[Array, "t s"],
    mask: Bool[Array, "t s"],
    v: Float[Array, "s h"],
) -> State:
    """The state after s more keys, of which a query attends to those where mask is true."""
    scores = jnp.where(mask, scores, LOWEST)
    top = jnp.maximum(state.top, scores.max(axis=1, keepdims=True))
    weights = jnp.exp(scores - top)
    shrink = jnp.exp(state.top - top)
    context = jnp.einsum(
        "ts,sh->th",
        weights.astype(v.dtype),
        v,
        precision=precision(v),
        preferred_element_type=jnp.float32,
    )
    total = state.total * shrink + weights.sum(axis=1, keepdims=True)
    return State(top, total, state.context * shrink + context)


def finalize(state: State) -> tuple[Float[Array, "t h"], Float[Array, "t 1"]]:
    """The context and log sum exp of the scores; zeros and NO_KEYS for a query without a key."""
    total = jnp.where(state.total == 0.0, 1.0, state.total)
    return state.context / total, state.top + jnp.log(total)


def vary_together(*arguments: Any) -> Any:
    """The same arrays, each varying over all mesh axes that one of them varies over (shard_map).

    Loops and kernels require it; the gradient of an array that is the same on every device is then
    summed over the devices.
    """
    axes = [jax.typeof(x).manual_axis_type.varying for x in jax.tree.leaves(arguments)]
    together = frozenset().union(*axes)

    def vary(x: jax.Array) -> jax.Array:
        missing = together - jax.typeof(x).manual_axis_type.varying
        return jax.lax.pcast(x, tuple(sorted(missing)), to="varying")

    return jax.tree.map(vary, arguments)
