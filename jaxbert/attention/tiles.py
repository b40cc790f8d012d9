"""Which tiles of the scores are worth computing, found before any of them is.

A tile is some queries against some keys. It is left out if no query of it sees a key of it, or if
all that is left out cannot move a query's context by more than `tolerance` times the largest |v|.
notes/05-attention.md has the proof.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxbert.position import Bias

# Relative to |q| |k|: what a product of up to 128 features may lose in float32, 128 x 2^-24.
ROUNDING = 1e-5
# In units of the score: more than the float32 error of a bias that matters, 50 x 2^-23.
MARGIN = 1e-4
# Numbers beyond are taken for this one, which only brings tiles closer; differences fit 32 bits.
FAR = 2**30 - 1


class Span(NamedTuple):
    """The tiles of keys that each tile of queries needs: first, first + 1, ... stop - 1."""

    first: Int[Array, "*i"]
    stop: Int[Array, "*i"]


def cut(x: Array, size: int, fill: int | float = 0) -> Array:
    """[t, ...] -> [tiles, size, ...], filled up at the end."""
    width = [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, width, constant_values=fill).reshape(-1, size, *x.shape[1:])


def extent(
    x: Int[Array, " t"], real: Bool[Array, " t"], size: int
) -> tuple[Int[Array, " i"], Int[Array, " i"]]:
    """The smallest and the largest x of each tile, over the tokens that are real."""
    x = jnp.clip(x, -FAR, FAR)
    low = cut(jnp.where(real, x, FAR), size, FAR).min(axis=1)
    high = cut(jnp.where(real, x, -FAR), size, -FAR).max(axis=1)
    return low, high


def gap(
    queries: tuple[Int[Array, " i"], Int[Array, " i"]],
    keys: tuple[Int[Array, " j"], Int[Array, " j"]],
) -> Int[Array, "i j"]:
    """How far apart the extents of two tiles are; 0 where they overlap."""
    (low_q, high_q), (low_k, high_k) = queries, keys
    after, before = low_k[None, :] - high_q[:, None], low_q[:, None] - high_k[None, :]
    return jnp.maximum(0, jnp.maximum(after, before))


def norms(x: Float[Array, "t h"]) -> Float[Array, " t"]:
    """The Euclidean norm of each token's vector."""
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(axis=1))


def own_scores(
    q: Float[Array, "t h"], k: Float[Array, "t h"], bias: Bias, positions: Int[Array, " t"]
) -> Float[Array, " t"]:
    """At most the score of each token with itself, which its softmax is sure to hold."""
    scores = (q.astype(jnp.float32) * k.astype(jnp.float32)).sum(axis=1)
    scores = (scores - ROUNDING * norms(q) * norms(k)) * (q.shape[-1] ** -0.5)
    return scores + jax.vmap(lambda p: bias(p[None], p[None])[0, 0])(positions)


def needed(
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    size_q: int,
    size_k: int,
    tolerance: float,
) -> Bool[Array, "i j"]:
    """True for the tiles of one head that must be computed, of size_q queries and size_k keys.

    Every exponential that is left out is at most tolerance / 2t of one that is kept.
    """
    real = segments != 0
    together = gap(extent(segments, real, size_q), extent(segments, real, size_k)) == 0
    if bias is None or tolerance == 0.0:
        return together
    distance = gap(extent(positions, real, size_q), extent(positions, real, size_k))
    longest_q = cut(jnp.where(real, norms(q), 0.0), size_q).max(axis=1)
    longest_k = cut(jnp.where(real, norms(k), 0.0), size_k).max(axis=1)
    scores = longest_q[:, None] * longest_k[None, :] * ((1 + ROUNDING) * q.shape[-1] ** -0.5)
    most = scores + bias.upper(distance) + (math.log(2 * len(q) / tolerance) + MARGIN)
    own = jnp.where(real, own_scores(q, k, bias, positions), jnp.inf)
    return together & (most >= cut(own, size_q, jnp.inf).min(axis=1)[:, None])


def span(tiles: Bool[Array, "i j"]) -> Span:
    """From the first to the last needed tile of each row; 0, 0 for a row that needs none."""
    some = tiles.any(axis=1)
    first = jnp.argmax(tiles, axis=1).astype(jnp.int32)
    after = jnp.argmax(tiles[:, ::-1], axis=1).astype(jnp.int32)
    return Span(jnp.where(some, first, 0), jnp.where(some, tiles.shape[1] - after, 0))
