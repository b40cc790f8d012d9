"""The gradients of attention in linear memory, from the residuals of a tiled forward pass.

With p = exp(score - lse), o = p v, and do and dl the gradients of o and lse: dv = p^T do, and the
gradient of the scores is p (do v^T - sum_h do o + dl), and from there through bias.score to q k^T
and to the bias. Each tile of p is recomputed; no array [t, s] is stored.
Source: Dao et al., arXiv:2205.14135, appendix B.4; the gradient of lse is p.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.dense import NO_KEYS, product
from jaxbert.model.attention.online import tile_mask, tile_products, tile_scores, vary_together
from jaxbert.model.attention.tiles import TileRange, tile_ranges, tiled
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias

# Attention with fixed tile sizes: the context, and the log sum exp of the scores.
Forward = Callable[..., tuple[Queries, Lse]]


class Tiling(NamedTuple):
    """Queries and keys of a tile, and the error that skipping may cause, in units of max |v|."""

    queries: int
    keys: int
    tolerance: float


def by_head(
    function: Callable[..., Any],
    bias: Bias | None,
    positions: Positions,
    segments: Segments,
    *arrays: jax.Array,
) -> Any:
    """function(bias, positions, segments, *arrays) for each head in turn, stacked: [b, n, ...]."""

    def one_row(row: tuple[Any, ...]) -> Any:
        positions, segments, *arrays = row
        return jax.lax.map(lambda x: function(x[0], positions, segments, *x[1:]), (bias, *arrays))

    return jax.lax.map(one_row, (jnp.broadcast_to(positions, segments.shape), segments, *arrays))


class Tile(NamedTuple):
    """The queries of a tile and their arrays; delta = sum_h do o - dl."""

    q: Float[Array, "*i t h"]
    positions: Int[Array, "*i t"]
    segments: Int[Array, "*i t"]
    d_out: Float[Array, "*i t h"]
    lse: Float[Array, "*i t 1"]
    delta: Float[Array, "*i t 1"]


def floating(bias: Bias | None) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Bias | None]]:
    """The leaves that have a gradient, and a function that rebuilds the bias from such leaves."""
    leaves, tree = jax.tree.flatten(bias)
    is_float = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def join(values: list[jax.Array]) -> Bias | None:
        new = iter(values)
        mixed = [next(new) if f else leaf for f, leaf in zip(is_float, leaves, strict=True)]
        return jax.tree.unflatten(tree, mixed)

    return [leaf for f, leaf in zip(is_float, leaves, strict=True) if f], join


def one_head(
    tiling: Tiling,
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    *arrays: jax.Array,
) -> tuple[Any, ...]:
    """The gradients of q, k, v and the floating leaves of bias from q, k, v, o, lse, do, dl."""
    q, k, v, out, lse, d_out, d_lse = arrays
    t, h = q.shape
    scale = h**-0.5
    delta = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(axis=1, keepdims=True)
    # That of a query without keys is a constant.
    delta = delta - jnp.where(lse > NO_KEYS, d_lse, 0.0)[:, None]
    ranges = tile_ranges(q, k, bias, positions, segments, *tiling)
    per_query = (q, positions, segments, d_out, lse[:, None], delta)
    tiles = Tile(*(tiled(x, tiling.queries) for x in per_query))
    keys = tuple(tiled(x, tiling.keys) for x in (k, v, positions, segments))
    leaves, join = floating(bias)

    def step(totals: Any, tile_and_range: tuple[Tile, TileRange]) -> tuple[Any, jax.Array]:
        tile, needed = tile_and_range

        def update(i: jax.Array, carry: Any) -> Any:
            j = needed.tile(i)
            d_q, d_k, d_v, d_leaves = carry
            k, v, pos_k, segments_k = (x[j] for x in keys)

            def score(products: jax.Array, values: list[jax.Array]) -> jax.Array:
                return tile_scores(join(values), products, tile.positions, pos_k)

            scores, pull = jax.vjp(score, tile_products(tile.q, k), leaves)
            p = jnp.exp(scores - tile.lse)
            p = jnp.where(tile_mask(tile.segments, segments_k), p, 0.0)
            d_s, d_values = pull(p * (product("th,sh->ts", tile.d_out, v) - tile.delta))
            d_leaves = jax.tree.map(jnp.add, d_leaves, d_values)
            d_s = (d_s * scale).astype(q.dtype)
            d_q = d_q + product("ts,sh->th", d_s, k)
            d_k = d_k.at[j].add(product("ts,th->sh", d_s, tile.q))
            d_v = d_v.at[j].add(product("ts,th->sh", p.astype(v.dtype), tile.d_out))
            return d_q, d_k, d_v, d_leaves

        _, start = vary_together(tile.q, jnp.zeros((tiling.queries, h), jnp.float32))
        d_q, *totals = jax.lax.fori_loop(0, needed.total(), update, (start, *totals))
        return tuple(totals), d_q

    empty = jnp.zeros(keys[0].shape, jnp.float32)
    _, totals = vary_together(q, (empty, empty, [jnp.zeros_like(leaf) for leaf in leaves]))
    (d_k, d_v, d_leaves), d_q = jax.lax.scan(step, totals, (tiles, ranges))
    return *(x.reshape(-1, h)[:t].astype(q.dtype) for x in (d_q, d_k, d_v)), d_leaves


def cotangent(bias: Bias | None, d_leaves: list[jax.Array]) -> Bias | None:
    """The gradient in the structure of bias, summed over rows; float0 zeros for integer leaves."""
    leaves, tree = jax.tree.flatten(bias)
    gradients = iter(d_leaves)
    return jax.tree.unflatten(
        tree,
        [
            next(gradients).sum(axis=0).astype(leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else np.zeros(leaf.shape, jax.dtypes.float0)
            for leaf in leaves
        ],
    )


def differentiable(forward: Forward, tiling: Tiling) -> Forward:
    """forward as a function with the gradients of this file, of both its results."""

    @jax.custom_vjp
    def attend(
        q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
    ) -> tuple[Queries, Lse]:
        return forward(q, k, v, bias, positions, segments)

    def keep(*arguments: Any) -> tuple[tuple[Queries, Lse], Any]:
        results = forward(*arguments)
        return results, (arguments, results)

    def pull(residuals: Any, gradients: tuple[Queries, Lse]) -> tuple[Any, ...]:
        (q, k, v, bias, positions, segments), results = residuals
        heads = partial(one_head, tiling)
        d_q, d_k, d_v, d_leaves = by_head(
            heads, bias, positions, segments, q, k, v, *results, *gradients
        )
        return d_q, d_k, d_v, cotangent(bias, d_leaves), None, None

    attend.defvjp(keep, pull)
    return attend
