"""What the kernels for TPU and GPU share: whole tiles, which are needed, and what is refused."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.backward import Tiling
from jaxbert.model.attention.tiles import TileRange, tile_ranges
from jaxbert.model.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias

# What a bias may do inside a kernel: arithmetic on tiles, without looking anything up.
TRACEABLE = frozenset(
    "abs add and broadcast_in_dim clamp convert_element_type copy div eq exp exp2 ge gt iota "
    "integer_pow le log logistic lt max min mul ne neg not or pjit jit reshape rsqrt select_n sign "
    "sqrt square stop_gradient sub tanh".split()
)


class Whole(NamedTuple):
    """The arguments of attend, filled up to whole tiles; what was added is padding, segment 0."""

    q: Float[Array, "b n t h"]
    k: Float[Array, "b n s h"]
    v: Float[Array, "b n s h"]
    positions: Int[Array, "b t"]
    segments: Int[Array, "b t"]
    spans: TileRange  # [b, n, i]


def fill(x: jax.Array, axis: int, tile: int) -> jax.Array:
    """x with zeros behind it on axis, up to a multiple of tile."""
    width = [(0, 0)] * x.ndim
    width[axis] = (0, -x.shape[axis] % tile)
    return jnp.pad(x, width)


def prepare(
    tiling: Tiling,
    q: Queries,
    k: Keys,
    v: Values,
    bias: Bias | None,
    positions: Positions,
    segments: Segments,
) -> Whole:
    """Whole tiles, and which of them are needed; the larger side is a multiple of the smaller."""
    tile = max(tiling.queries, tiling.keys)
    positions = jnp.broadcast_to(positions, segments.shape)

    def one_head(
        bias: Bias | None, q: jax.Array, k: jax.Array, positions: jax.Array, segments: jax.Array
    ) -> TileRange:
        return tile_ranges(q, k, bias, positions, segments, *tiling)

    heads = jax.vmap(one_head, in_axes=(0, 0, 0, None, None))
    q, k, v = (fill(x, 2, tile) for x in (q, k, v))
    positions, segments = (fill(x, 1, tile) for x in (positions, segments))
    # Row by row: the tiles of all rows at once would be the largest array of a whole encoder.
    spans = jax.lax.map(lambda row: heads(bias, *row), (q, k, positions, segments))
    return Whole(q, k, v, positions, segments, spans)


def check_traceable(bias: Bias | None) -> None:
    """Refuse a bias that does more than arithmetic on tiles; the caller then takes another way."""
    if bias is None:
        return
    heads = jax.vmap(lambda head, q, k: head(q, k), in_axes=(0, None, None))
    place = jnp.zeros((8,), jnp.int32)
    one = jax.make_jaxpr(heads)(bias, place, place)
    if one.consts:
        raise NotImplementedError(
            f"{type(bias).__name__} uses an array that is not its own; make it a leaf with axis n"
        )
    used = primitives(one.jaxpr)
    if strange := sorted(used - TRACEABLE):
        raise NotImplementedError(
            f"{type(bias).__name__} uses {', '.join(strange)}, which a kernel cannot trace"
        )


def primitives(jaxpr: core.Jaxpr) -> set[str]:
    """The names of all operations, those of inner functions included."""
    found = set()
    for equation in jaxpr.eqns:
        found.add(equation.primitive.name)
        for inner in core.jaxprs_in_params(equation.params):
            found |= primitives(inner)
    return found
