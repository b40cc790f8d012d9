"""Exact attention in linear memory, in plain XLA: tile after tile of the scores, never all of them.

A tile of queries passes over the tiles of keys that it needs with the online softmax; rows and
heads follow one another, each product being large enough for all cores.
"""

from dataclasses import dataclass
from functools import partial

import jax
from jaxtyping import Array, Float, Int

from jaxbert.attention.backward import Settings, by_head, differentiable
from jaxbert.attention.online import State, absorb, alike, finish, nothing, product, sees
from jaxbert.attention.tiles import cut, span
from jaxbert.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.position import Bias


def one_head(
    settings: Settings,
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    q: Float[Array, "t h"],
    k: Float[Array, "t h"],
    v: Float[Array, "t h"],
) -> tuple[Float[Array, "t h"], Float[Array, " t"]]:
    """The context of one head, and the log sum exp of its scores."""
    t, h = q.shape
    if t == settings.queries == settings.keys:  # one tile, so there is nothing to go over
        scores = product(q, k, None if bias is None else bias(positions, positions))
        state = absorb(nothing(t, h), scores, sees(segments, segments), v)
        context, lse = finish(state)
        return context.astype(q.dtype), lse.reshape(-1)
    spans = span(q, k, bias, positions, segments, *settings)
    tiles = tuple(cut(x, settings.queries) for x in (q, positions, segments))
    keys = tuple(cut(x, settings.keys) for x in (k, v, positions, segments))

    def one_tile(tile: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        q, place_q, segment_q, first, stop = tile

        def step(j: jax.Array, state: State) -> State:
            k, v, place, segment = (x[j] for x in keys)
            scores = product(q, k, None if bias is None else bias(place_q, place))
            return absorb(state, scores, sees(segment_q, segment), v)

        _, start = alike(q, nothing(settings.queries, h))
        return finish(jax.lax.fori_loop(first, stop, step, start))

    context, lse = jax.lax.map(one_tile, (*tiles, *spans))
    return context.reshape(-1, h)[:t].astype(q.dtype), lse.reshape(-1)[:t]


@dataclass(frozen=True)
class Blockwise:
    """softmax(q k^T / sqrt(h) + bias) v as dense computes it, in memory linear in the length.

    Tiles of keys that ALiBi (or any bias with `upper`) makes negligible are left out: the context
    moves by at most tolerance times the largest |v|. tolerance=0.0 leaves out nothing but padding
    and other texts. A shorter text has one tile of its own size.
    """

    queries: int = 512
    keys: int = 512
    tolerance: float = 1e-7

    def __call__(
        self,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> Queries:
        """Shapes: q, k, v [b, n, t, h]; positions [#b, t]; segments [b, t]."""
        t = q.shape[2]
        settings = Settings(min(self.queries, t), min(self.keys, t), self.tolerance)

        def forward(
            q: Queries,
            k: Keys,
            v: Values,
            bias: Bias | None,
            positions: Positions,
            segments: Segments,
        ) -> tuple[Queries, Float[Array, "b n t"]]:
            return by_head(partial(one_head, settings), bias, positions, segments, q, k, v)

        return differentiable(forward, settings)(*alike(q, k, v, bias, positions, segments))


blockwise = Blockwise()
