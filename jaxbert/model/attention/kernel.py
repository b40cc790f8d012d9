"""Shared by the kernels for TPU and GPU: whole tiles, their ranges, biases they can trace."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.backward import Tiling
from jaxbert.model.attention.tiles import TileRange, tile_ranges
from jaxbert.model.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias, arithmetic_of

# The operations of a bias inside a kernel: arithmetic on tiles, number by number. Both compilers
# have them (tests/deviceless).
TRACEABLE = frozenset(
    "abs add and atan2 broadcast_in_dim ceil clamp convert_element_type copy cos custom_jvp_call "
    "div eq erf_inv exp exp2 floor ge gt integer_pow iota is_finite le log log1p logistic lt max "
    "min mul ne neg not or pjit jit pow rem reshape rsqrt select_n sign sin sqrt square "
    "stop_gradient sub tan tanh xor".split()
)


class Padded(NamedTuple):
    """The arguments of attend, padded to whole tiles with tokens of segment 0."""

    q: Float[Array, "b n t h"]
    k: Float[Array, "b n s h"]
    v: Float[Array, "b n s h"]
    positions: Int[Array, "b t"]
    segments: Int[Array, "b t"]
    ranges: TileRange  # [b, n, i]


def pad_axis(x: jax.Array, axis: int, size: int) -> jax.Array:
    """x with zeros at the end of axis, up to a multiple of size."""
    width = [(0, 0)] * x.ndim
    width[axis] = (0, -x.shape[axis] % size)
    return jnp.pad(x, width)


def pad_to_tiles(
    tiling: Tiling,
    q: Queries,
    k: Keys,
    v: Values,
    bias: Bias | None,
    positions: Positions,
    segments: Segments,
) -> Padded:
    """Whole tiles, and the ranges needed; the larger tile size is a multiple of the smaller."""
    tile = max(tiling.queries, tiling.keys)
    positions = jnp.broadcast_to(positions, segments.shape)

    def one_head(
        bias: Bias | None, q: jax.Array, k: jax.Array, positions: jax.Array, segments: jax.Array
    ) -> TileRange:
        return tile_ranges(q, k, bias, positions, segments, *tiling)

    heads = jax.vmap(one_head, in_axes=(0, 0, 0, None, None))
    q, k, v = (pad_axis(x, 2, tile) for x in (q, k, v))
    positions, segments = (pad_axis(x, 1, tile) for x in (positions, segments))
    # Row by row: the tiles of all rows at once would be the largest array of a whole encoder.
    ranges = jax.lax.map(lambda row: heads(bias, *row), (q, k, positions, segments))
    return Padded(q, k, v, positions, segments, ranges)


def arithmetic(bias: Bias | None) -> Bias | None:
    """The bias as a kernel takes it, see Bias.arithmetic."""
    return None if bias is None else arithmetic_of(bias)


def check_traceable(bias: Bias | None) -> None:
    """Raise NotImplementedError for a bias that does more than arithmetic on tiles."""
    if bias is None:
        return
    first = jax.eval_shape(lambda heads: jax.tree.map(lambda x: x[0], heads), arithmetic(bias))
    positions = (jnp.zeros((size,), jnp.int32) for size in (8, 16))
    scores = jnp.zeros((8, 16), jnp.float32)
    traced = jax.make_jaxpr(lambda head, *tile: head.score(*tile))(first, scores, *positions)
    if traced.consts:
        raise NotImplementedError(
            f"{type(bias).__name__} uses an array that is not its own; make it a leaf with axis n"
        )
    used = primitives(traced.jaxpr)
    if unsupported := sorted(used - TRACEABLE):
        raise NotImplementedError(
            f"{type(bias).__name__} uses {', '.join(unsupported)}, which a kernel cannot trace; "
            "define arithmetic() to add up or choose among single numbers per head instead"
        )


def primitives(jaxpr: core.Jaxpr) -> set[str]:
    """The names of all operations, those of inner functions included."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for inner in core.jaxprs_in_params(equation.params):
            names |= primitives(inner)
    return names
