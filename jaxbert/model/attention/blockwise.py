"""Exact attention in linear memory, in plain XLA: tile after tile of the scores, never all of them.

A tile of queries runs over the tiles of keys that it needs with the online softmax; rows and heads
follow one another, since one product is large enough for all cores.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.backward import Tiling, by_head
from jaxbert.model.attention.online import (
    State,
    finalize,
    initial_state,
    tile_mask,
    tile_products,
    tile_scores,
    update,
    vary_together,
)
from jaxbert.model.attention.tiled import Tiled
from jaxbert.model.attention.tiles import TileRange, tile_ranges, tiled
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias


def one_head(
    tiling: Tiling,
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    v: Float[Array, "t h"],
) -> tuple[Float[Array, "t h"], Float[Array, " t"]]:
    """The context [t, h] of one head, and the log sum exp [t] of its scores."""
    t, h = q.shape
    if t == tiling.queries == tiling.keys:  # a single tile needs no loop
        scores = tile_scores(bias, tile_products(q, k), positions, positions)
        state = update(initial_state(t, h), scores, tile_mask(segments, segments), v)
        context, lse = finalize(state)
        return context.astype(q.dtype), lse.reshape(-1)
    ranges = tile_ranges(q, k, bias, positions, segments, *tiling)
    tiles = tuple(tiled(x, tiling.queries) for x in (q, positions, segments))
    keys = tuple(tiled(x, tiling.keys) for x in (k, v, positions, segments))

    def one_tile(tile_and_range: tuple[Any, TileRange]) -> tuple[jax.Array, jax.Array]:
        (q, pos_q, segments_q), needed = tile_and_range

        def step(i: jax.Array, state: State) -> State:
            j = needed.tile(i)
            k, v, pos_k, segments_k = (x[j] for x in keys)
            scores = tile_scores(bias, tile_products(q, k), pos_q, pos_k)
            return update(state, scores, tile_mask(segments_q, segments_k), v)

        _, start = vary_together(q, initial_state(tiling.queries, h))
        return finalize(jax.lax.fori_loop(0, needed.total(), step, start))

    context, lse = jax.lax.map(one_tile, (tiles, ranges))
    return context.reshape(-1, h)[:t].astype(q.dtype), lse.reshape(-1)[:t]


@dataclass(frozen=True)
class Blockwise(Tiled):
    """Attention in tiles of `queries` by `keys` scores; a shorter text has one smaller tile."""

    name: ClassVar[str] = "blockwise"

    queries: int = 512
    keys: int = 512
    tolerance: float = 1e-7

    def tiling(self, q: Queries, bias: Bias | None) -> Tiling:
        """The tile sizes, at most the length of the text."""
        t = q.shape[2]
        return Tiling(min(self.queries, t), min(self.keys, t), self.tolerance)

    def forward(
        self,
        tiling: Tiling,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> tuple[Queries, Lse]:
        """The context [b, n, t, h] and the log sum exp [b, n, t], one head after the other."""
        return by_head(partial(one_head, tiling), bias, positions, segments, q, k, v)


blockwise = Blockwise()
