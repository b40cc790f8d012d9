"""Which tiles of the scores need computing, decided before any of them is computed.

A tile is a range of queries against a range of keys. It is skipped if no query of it attends to a
key of it, or if all skipped tiles together cannot move a context by more than `tolerance` times the
largest |v|.
notes/05-attention.md has the proof.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxbert.model.position import Bias

# The relative rounding error of a float32; that of a sum of n products is at most n times this.
ROUND = 2.0**-24
# In units of the score: more than the float32 error of a bias that matters, 50 x 2^-23.
MARGIN = 1e-4
# Queries that logsumexp_lower_bound takes at a time; more would cost more than they save.
PART = 128
# Positions are clipped to this, which only brings tiles closer; differences then fit 32 bits.
FAR = 2**30 - 1


class TileRange(NamedTuple):
    """The tiles of keys that each tile of queries needs: first, first + 1, ... stop - 1."""

    first: Int[Array, "*i"]
    stop: Int[Array, "*i"]


def tiled(x: Array, size: int, padding: int | float = 0) -> Array:
    """x [t, ...] as [tiles, size, ...], the last tile filled up with `padding`."""
    width = [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, width, constant_values=padding).reshape(-1, size, *x.shape[1:])


def tile_range(
    x: Int[Array, " t"], real: Bool[Array, " t"], size: int
) -> tuple[Int[Array, " i"], Int[Array, " i"]]:
    """The smallest and the largest x of each tile, over the tokens that are real."""
    x = jnp.clip(x, -FAR, FAR)
    low = tiled(jnp.where(real, x, FAR), size, FAR).min(axis=1)
    high = tiled(jnp.where(real, x, -FAR), size, -FAR).max(axis=1)
    return low, high


def tile_distance(
    queries: tuple[Int[Array, " i"], Int[Array, " i"]],
    keys: tuple[Int[Array, " j"], Int[Array, " j"]],
) -> Int[Array, "i j"]:
    """The distance between the ranges of two tiles; 0 where they overlap."""
    (low_q, high_q), (low_k, high_k) = queries, keys
    after, before = low_k[None, :] - high_q[:, None], low_q[:, None] - high_k[None, :]
    return jnp.maximum(0, jnp.maximum(after, before))


def norms(x: Float[Array, "t h"]) -> Float[Array, " t"]:
    """The Euclidean norm of each token's vector."""
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(axis=1))


def logsumexp_lower_bound(
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    bias: Bias,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
) -> Float[Array, ""]:
    """A lower bound of the log sum exp of the scores of t queries; inf if all of them are padding.

    The keys are those of the same tokens. A query attends to itself; and where all t are of one
    text, the sum over them is at least t times the exponential of their mean score, since exp is
    convex (Jensen).
    """
    real = segments != 0
    scale = q.shape[-1] ** -0.5
    terms = bias(positions, positions).astype(jnp.float32)
    diagonal = (q * k).sum(axis=1) * scale + jnp.diagonal(terms)
    mean = (q * k.mean(axis=0)[None, :]).sum(axis=1) * scale + terms.mean(axis=1)
    one_text = real.all() & (segments == segments[0]).all()
    jensen = mean + math.log(len(q)) - len(q) * ROUND * jnp.abs(terms).max(axis=1)
    jensen = jnp.where(one_text, jensen, -jnp.inf)
    # Of the product over h features, and of the mean over t keys.
    error = (q.shape[-1] + len(q)) * ROUND * scale * norms(q) * norms(k).max()
    return jnp.where(real, jnp.maximum(diagonal, jensen) - error, jnp.inf).min()


def softmax_mass_bound(
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    bias: Bias,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    size_q: int,
    size_k: int,
) -> Float[Array, "i j"]:
    """An upper bound of the softmax mass of a tile's keys, for each of its queries.

    The mean key is subtracted: this shifts all scores of a query by one number, so softmax stays
    the same, while the norms that bound the scores shrink.
    """
    real = segments != 0
    mean = k.mean(axis=0, where=real[:, None], keepdims=True, dtype=jnp.float32)

    def centred(k: jax.Array, real: jax.Array) -> jax.Array:
        return jnp.where(real[:, None], k.astype(jnp.float32) - mean, 0.0)

    # float32 inside a tile only: for all tokens it would be the largest array of an encoder.
    def lower_bound(tile: tuple[jax.Array, ...]) -> jax.Array:
        q, k, positions, segments = tile
        return logsumexp_lower_bound(
            q.astype(jnp.float32), centred(k, segments != 0), bias, positions, segments
        )

    distance = tile_distance(
        tile_range(positions, real, size_q), tile_range(positions, real, size_k)
    )
    longest_q = tiled(jnp.where(real, norms(q), 0.0), size_q).max(axis=1)
    longest_k = tiled(norms(centred(k, real)), size_k).max(axis=1)
    h = q.shape[-1]
    scores = longest_q[:, None] * longest_k[None, :] * ((1 + 2 * h * ROUND) * h**-0.5)
    # 16 parts at a time: one after the other would leave an accelerator idle.
    part = PART if size_q % PART == 0 else size_q
    parts = tuple(tiled(x, part) for x in (q, k, positions, segments))
    bounds = jax.lax.map(lower_bound, parts, batch_size=16)
    logsumexp = tiled(bounds, size_q // part, jnp.inf).min(axis=1)
    keys = tiled(real, size_k).sum(axis=1).astype(jnp.float32)
    return keys[None, :] * jnp.exp(scores + bias.upper(distance) + MARGIN - logsumexp[:, None])


def tile_ranges(
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    size_q: int,
    size_k: int,
    tolerance: float,
) -> TileRange:
    """The tiles of keys that each tile of queries of one head needs; 0, 0 where it is all padding.

    From each end, tiles are skipped while their softmax masses add up to at most tolerance / 4.
    """
    real = segments != 0
    share_text = (
        tile_distance(tile_range(segments, real, size_q), tile_range(segments, real, size_k)) == 0
    )
    mass = share_text.astype(jnp.float32)
    # A single tile of queries is near all keys, so that nothing can be skipped.
    if bias is not None and bias.additive and tolerance > 0.0 and len(q) > size_q:
        bound = softmax_mass_bound(q, k, bias, positions, segments, size_q, size_k)
        mass = jnp.where(share_text, bound, 0.0)
    allowed = tolerance / 4
    left = (jnp.cumsum(mass, axis=1) <= allowed).sum(axis=1)
    right = (jnp.cumsum(mass[:, ::-1], axis=1) <= allowed).sum(axis=1)
    stop = mass.shape[1] - right
    return TileRange(jnp.minimum(left, stop).astype(jnp.int32), stop.astype(jnp.int32))
