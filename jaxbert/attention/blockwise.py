"""Exact attention in linear memory, in plain XLA: some queries at a time against all keys.

Of the scores only [BLOCK, s] numbers of one head exist at a time, also in the backward pass, which
computes each block again. A block sees all its keys at once, so the softmax is the plain one.
"""

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from jaxbert.attention.dense import normaliser, weigh
from jaxbert.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.position import Bias

# Queries at a time: the scores of a block against 8192 keys are 4 MiB.
BLOCK = 128


def one_block(
    q: Float[Array, "t h"],
    k: Float[Array, "s h"],
    v: Float[Array, "s h"],
    bias: Bias | None,
    places: tuple[Int[Array, " t"], Int[Array, " s"]],
    segments: tuple[Int[Array, " t"], Int[Array, " s"]],
) -> Float[Array, "t h"]:
    """dense on t queries of one head; places and segments are those of (queries, keys)."""
    scores = jnp.einsum(
        "th,sh->ts", q, k, precision=Precision.HIGHEST, preferred_element_type=jnp.float32
    )
    scores = scores * (q.shape[-1] ** -0.5)
    if bias is not None:
        scores = scores + bias(*places)
    seen = (segments[0][:, None] == segments[1][None, :]) & (segments[1] != 0)[None, :]
    weights = weigh(scores, seen)
    context = jnp.einsum(
        "ts,sh->th",
        weights.astype(v.dtype),
        v,
        precision=Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return (context / normaliser(weights)).astype(q.dtype)


def blockwise(
    q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
) -> Queries:
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0: what dense computes.

    Rows, heads and blocks run one after the other; each product is large enough for all cores.
    """
    b, _, t, h = q.shape
    missing = -t % BLOCK
    positions = jnp.broadcast_to(positions, (b, t))

    def cut(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
        return padded.reshape(-1, BLOCK, *x.shape[1:])

    def one_row(row: tuple[jax.Array, ...]) -> jax.Array:
        q, k, v, place, segment = row

        def one_head(head: tuple[jax.Array, jax.Array, jax.Array, Bias | None]) -> jax.Array:
            q, k, v, own_bias = head

            @jax.checkpoint
            def step(block: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
                q, p, s = block
                return one_block(q, k, v, own_bias, (p, place), (s, segment))

            return jax.lax.map(step, (cut(q), cut(place), cut(segment))).reshape(-1, h)[:t]

        return jax.lax.map(one_head, (q, k, v, bias))

    return jax.lax.map(one_row, (q, k, v, positions, segments))
