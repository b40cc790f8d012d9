"""Which tiles of the scores need computing, decided before any of them is computed.

A tile is a range of queries against a range of keys. It is skipped if no query of it attends to a
key of it, or if all skipped tiles together cannot move a context by more than `tolerance` times the
largest |v|. What a tile of queries needs is a range of tiles of keys, with at most one gap in it: a
window and the tokens that all attend to, wherever they are.
notes/05-attention.md has the proof.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxbert.model.attention.online import tile_mask, tile_products
from jaxbert.model.position import Bias, PositionRange, distance_between

# The relative rounding error of a float32; that of a sum of n products is at most n times this.
ROUND = 2.0**-24
# In units of the score: more than the float32 error of a bias that matters, 50 x 2^-23.
MARGIN = 1e-4
# Queries that logsumexp_lower_bound takes at a time; more would cost more than they save.
PART = 128


class TileRange(NamedTuple):
    """The tiles of keys that each tile of queries needs.

    They are first, first + 1, ... stop - 1 without gap_first, ... gap_stop - 1.
    """

    first: Int[Array, "*i"]
    stop: Int[Array, "*i"]
    gap_first: Int[Array, "*i"]
    gap_stop: Int[Array, "*i"]

    def total(self) -> Int[Array, "*i"]:
        """How many tiles of keys there are."""
        return self.stop - self.first - (self.gap_stop - self.gap_first)

    def tile(self, i: Int[Array, ""] | int) -> Int[Array, "*i"]:
        """The number of the i-th of them, where 0 is the first."""
        j = self.first + i
        return j + jnp.where(j >= self.gap_first, self.gap_stop - self.gap_first, 0)


def tiled(x: Array, size: int, padding: int | float = 0) -> Array:
    """x [t, ...] as [tiles, size, ...], the last tile filled up with `padding`."""
    width = [(0, -len(x) % size)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, width, constant_values=padding).reshape(-1, size, *x.shape[1:])


def tile_range(x: Int[Array, " t"], real: Bool[Array, " t"], size: int) -> PositionRange:
    """The smallest and the largest x of each tile, over the tokens that are real."""
    least, most = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    low = tiled(jnp.where(real, x, most), size, most).min(axis=1)
    high = tiled(jnp.where(real, x, least), size, least).max(axis=1)
    return PositionRange(low, high)


def query_and_key_ranges(
    x: Int[Array, " t"], real: Bool[Array, " t"], size_q: int, size_k: int
) -> tuple[PositionRange, PositionRange]:
    """The ranges of x in each tile of queries, [i, 1], and in each tile of keys, [1, j]."""
    queries, keys = (tile_range(x, real, size) for size in (size_q, size_k))
    return PositionRange(*(x[:, None] for x in queries)), PositionRange(*(x[None] for x in keys))


def longest_gap(empty: Bool[Array, "i j"]) -> tuple[Int[Array, " i"], Int[Array, " i"]]:
    """Where the longest run of true in each row begins and stops."""
    column = jnp.arange(empty.shape[1], dtype=jnp.int32)[None]
    run = column - jax.lax.cummax(jnp.where(empty, -1, column), axis=1)
    stop = run.argmax(axis=1) + 1
    return stop - run.max(axis=1), stop


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


def own_logsumexp(
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    bias: Bias,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
) -> Float[Array, ""]:
    """logsumexp_lower_bound for a bias with a score of its own, which never falls as q k^T rises.

    It is the log sum exp over the keys of the same tokens, each product lowered by its error.
    """
    error = q.shape[-1] * ROUND * q.shape[-1] ** -0.5 * norms(q)[:, None] * norms(k)[None, :]
    scores = bias.score(tile_products(q, k) - error, positions, positions)
    seen = jnp.where(tile_mask(segments, segments), scores, -jnp.inf)
    return jnp.where(segments != 0, jax.nn.logsumexp(seen, axis=1), jnp.inf).min()


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

    Where a bias is added, the mean key is subtracted: this shifts all scores of a query by one
    number, so softmax stays the same, while the norms that bound the scores shrink.
    """
    real = segments != 0
    mean, least = jnp.zeros((1, q.shape[1]), jnp.float32), own_logsumexp
    if bias.additive:
        mean = k.mean(axis=0, where=real[:, None], keepdims=True, dtype=jnp.float32)
        least = logsumexp_lower_bound

    def centred(k: jax.Array, real: jax.Array) -> jax.Array:
        return jnp.where(real[:, None], k.astype(jnp.float32) - mean, 0.0)

    # float32 inside a tile only: for all tokens it would be the largest array of an encoder.
    def lower_bound(tile: tuple[jax.Array, ...]) -> jax.Array:
        q, k, positions, segments = tile
        k = centred(k, segments != 0)
        return least(q.astype(jnp.float32), k, bias, positions, segments)

    queries, keys = query_and_key_ranges(positions, real, size_q, size_k)
    longest_q = tiled(jnp.where(real, norms(q), 0.0), size_q).max(axis=1)
    longest_k = tiled(norms(centred(k, real)), size_k).max(axis=1)
    h = q.shape[-1]
    scores = longest_q[:, None] * longest_k[None, :] * ((1 + 2 * h * ROUND) * h**-0.5)
    # 16 parts at a time: one after the other would leave an accelerator idle.
    part = PART if size_q % PART == 0 else size_q
    parts = tuple(tiled(x, part) for x in (q, k, positions, segments))
    bounds = jax.lax.map(lower_bound, parts, batch_size=16)
    logsumexp = tiled(bounds, size_q // part, jnp.inf).min(axis=1)
    largest = bias.upper_score(scores, queries, keys)
    count = tiled(real, size_k).sum(axis=1).astype(jnp.float32)
    return count[None, :] * jnp.exp(largest + MARGIN - logsumexp[:, None])


def is_bounded(bias: Bias) -> bool:
    """Whether a bias may have bounds; a score of its own has none unless it defines one."""
    return bias.additive or type(bias).upper_score is not Bias.upper_score


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

    From each end, tiles are skipped while their softmax masses add up to at most tolerance / 4; in
    between, the longest run of tiles without any.
    """
    real = segments != 0
    share_text = distance_between(*query_and_key_ranges(segments, real, size_q, size_k)) == 0
    mass = share_text.astype(jnp.float32)
    # A single tile of queries is near all keys, so that nothing can be skipped.
    if bias is not None and is_bounded(bias) and tolerance > 0.0 and len(q) > size_q:
        bound = softmax_mass_bound(q, k, bias, positions, segments, size_q, size_k)
        mass = jnp.where(share_text, bound, 0.0)
    allowed = tolerance / 4
    left = (jnp.cumsum(mass, axis=1) <= allowed).sum(axis=1)
    right = (jnp.cumsum(mass[:, ::-1], axis=1) <= allowed).sum(axis=1)
    stop = mass.shape[1] - right
    first = jnp.minimum(left, stop)
    column = jnp.arange(mass.shape[1])[None]
    inside = (column >= first[:, None]) & (column < stop[:, None])
    gap = longest_gap(inside & (mass == 0.0))
    return TileRange(*(x.astype(jnp.int32) for x in (first, stop, *gap)))
