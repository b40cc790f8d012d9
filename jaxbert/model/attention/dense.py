"""The definition of attention, written out: every other implementation is tested against it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from jaxbert.model.axes import (
    AttentionMask,
    Keys,
    Lse,
    Positions,
    Queries,
    Scores,
    Segments,
    Values,
)
from jaxbert.model.position import Bias, own_arrays, per_head

LOWEST = float(np.finfo(np.float32).min)
# The log sum exp of a query without any key: its exponential is 0. It is finite, so that the
# difference of two is a number, and two branches without keys merge to zeros.
NO_KEYS = LOWEST / 2
# An einsum whose sums are float32, whatever goes in; a TPU would otherwise round to bfloat16.
product = partial(jnp.einsum, precision=Precision.HIGHEST, preferred_element_type=jnp.float32)


def dense_attention(
    q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
) -> Queries:
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0.

    Differs: divides after the value product, [t, h] numbers instead of [t, s]; softmax in float32.
    """
    weights = unnormalized_weights(attention_scores(q, k, bias, positions), segments)
    return weighted_mean(weights, v).astype(q.dtype)


def probabilities(
    q: Queries, k: Keys, bias: Bias | None, positions: Positions, segments: Segments
) -> Scores:
    """softmax over s of q k^T / sqrt(h) + bias, [b, n, t, s] in float32."""
    weights = unnormalized_weights(attention_scores(q, k, bias, positions), segments)
    return weights / softmax_denominator(weights)


def attention_scores(q: Queries, k: Keys, bias: Bias | None, positions: Positions) -> Scores:
    """q k^T / sqrt(h) + bias, [b, n, t, s] in float32, or what bias.score makes of the product."""
    scores = product("bnth,bnsh->bnts", q, k) * (q.shape[-1] ** -0.5)
    return scores if bias is None else biased_scores(scores, bias, positions, positions)


def biased_scores(
    scores: Scores, bias: Bias, pos_q: Positions, pos_k: Int[Array, "#b s"]
) -> Scores:
    """bias.score of every row and head; vmap splits every array of bias along its axis n."""
    heads = per_head(bias, scores.shape[1])

    def one_row(scores: jax.Array, pos_q: jax.Array, pos_k: jax.Array) -> jax.Array:
        return jax.vmap(lambda head, scores: head.score(scores, pos_q, pos_k))(heads, scores)

    if len(pos_q) == 1:  # the same in all rows, so that the term is computed once
        return jax.vmap(one_row, in_axes=(0, None, None))(scores, pos_q[0], pos_k[0])
    return jax.vmap(one_row)(scores, pos_q, pos_k)


def unnormalized_weights(scores: Scores, segments: Segments) -> Scores:
    """exp(scores - their maximum over s), exactly 0 where query t may not attend to key s."""
    return masked_weights(scores, attention_mask(segments))


def masked_weights(scores: Scores, mask: AttentionMask) -> Scores:
    """exp(scores - their maximum over s), exactly 0 where the mask is false."""
    scores = scores + jnp.where(mask, 0.0, LOWEST)
    return jnp.exp(scores - largest_score(scores))


def largest_score(scores: Float[Array, "*rows t s"]) -> Float[Array, "*rows t 1"]:
    """The maximum over s of masked scores, without a gradient, since it cancels out.

    If all keys of a query are masked, scores - maximum would be 0 and exp 1; a maximum of at least
    LOWEST / 2 makes exp 0.
    """
    return jax.lax.stop_gradient(jnp.maximum(scores.max(axis=-1, keepdims=True), NO_KEYS))


def log_sum_exp(scores: Scores, segments: Segments) -> Lse:
    """log sum over s of exp(score), in float32; NO_KEYS for a query without any key."""
    scores = scores + jnp.where(attention_mask(segments), 0.0, LOWEST)
    top = largest_score(scores)
    return (top + jnp.log(softmax_denominator(jnp.exp(scores - top))))[..., 0]


def weighted_mean(weights: Scores, v: Values) -> Queries:
    """sum over s of weights v, divided by the sum of the weights, in float32."""
    values = product("bnts,bnsh->bnth", weights.astype(v.dtype), v)
    return values / softmax_denominator(weights)


def softmax_denominator(weights: Float[Array, "... s"]) -> Float[Array, "... 1"]:
    """The sum over keys; 1 for a query without any, so that its context is zero."""
    total = weights.sum(axis=-1, keepdims=True)
    return jnp.where(total == 0.0, 1.0, total)


def attention_mask(segments: Segments) -> AttentionMask:
    """True where query t and key s are in one segment other than 0, which is padding."""
    q, k = segments[:, None, :, None], segments[:, None, None, :]
    return (q == k) & (k != 0)


def bias_table(bias: Bias, positions: Positions) -> jax.Array:
    """The bias of every head on whole rows, [#b, n, t, s], to look at; no attention computes it.

    n is 1 where all heads share everything.
    """
    n = next((len(leaf) for leaf in own_arrays(bias)), 1)

    def one_row(pos: jax.Array) -> jax.Array:  # vmap splits every array of bias along its axis n
        return jax.vmap(lambda head: head(pos, pos), axis_size=n)(per_head(bias, n))

    return jax.vmap(one_row)(positions)
