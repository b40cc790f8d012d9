"""Exact attention on TPU in one Pallas kernel: the scores exist a tile at a time, in VMEM.

The grid is rows, heads, tiles of queries, tiles of keys. Its last axis runs over the tiles of keys
that a tile of queries needs, with the online softmax in scratch memory; the remaining steps ask for
the block that is already there, so that nothing is copied, and compute nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.backward import Tiling
from jaxbert.model.attention.kernel import Padded, arithmetic, check_traceable, pad_to_tiles
from jaxbert.model.attention.online import (
    State,
    finalize,
    initial_state,
    tile_mask,
    tile_products,
    tile_scores,
    update,
)
from jaxbert.model.attention.tiled import Tiled
from jaxbert.model.attention.tiles import TileRange
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias

# Lanes of a vector register: what a tile of queries or keys is a multiple of.
LANES = 128
# Tiles of queries in a call: their ranges, 16 bytes each, fill half of the 1 MiB of scalar memory.
MOST_TILES = 2**15
# The arrays of a TileRange.
RANGES = 4
# Head width up to which the default tiles fit the vector memory; float32 at 512 no longer does.
WIDEST = 256


class Parameter(NamedTuple):
    """A leaf of a bias as the kernel takes it; shape and dtype are those of one head's part."""

    array: Array
    spec: pl.BlockSpec
    shape: tuple[int, ...]
    dtype: Any

    def read(self, ref: Any, head: Any) -> Array:
        """The part of one head, read inside the kernel from the block in ref."""
        value = ref[...].reshape(self.shape) if self.shape else ref[head]
        return value.astype(self.dtype)


def parameter(leaf: Float[Array, "n ..."] | Int[Array, "n ..."]) -> Parameter:
    """One number per head goes into scalar memory for all heads; more is a block per head."""
    shape = leaf.shape[1:]
    if not shape:
        # Scalar memory holds words of 32 bits.
        word = jnp.float32 if jnp.issubdtype(leaf.dtype, jnp.floating) else jnp.int32
        everything = pl.BlockSpec(memory_space=pltpu.SMEM)
        return Parameter(leaf.astype(word), everything, shape, leaf.dtype)
    # A block has at least two axes.
    flat = leaf.reshape(leaf.shape[0], -1, shape[-1])
    block = pl.BlockSpec((None, *flat.shape[1:]), lambda row, head, *_: (head, 0, 0))
    return Parameter(flat, block, shape, leaf.dtype)


def range_of(
    heads: int, tiles: int, row: Any, head: Any, i: Any, ranges: Sequence[Any]
) -> TileRange:
    """What a tile of queries needs, from flat arrays of ranges; scalar memory pads an axis."""
    return TileRange(*(x[(row * heads + head) * tiles + i] for x in ranges))


def one_step(
    rebuild: Callable[..., Bias | None],
    needed: Callable[..., TileRange],
    *refs: Any,
) -> None:
    """One tile of queries against one tile of keys; refs as in `attend_padded`."""
    ranges, refs = refs[:RANGES], refs[RANGES:]
    q, k, v, positions_q, positions_k, segments_q, segments_k, *parameters = refs[:-5]
    context, lse, *state = refs[-5:]
    row, head, i, j = (pl.program_id(axis) for axis in range(4))

    def store(new: State) -> None:
        for ref, value in zip(state, new, strict=True):
            ref[...] = value

    def stored() -> State:
        return State(*(ref[...] for ref in state))

    @pl.when(j == 0)
    def begin() -> None:
        store(initial_state(*q.shape))

    @pl.when(j < needed(row, head, i, ranges).total())
    def step() -> None:
        bias = rebuild(head, parameters)
        products = tile_products(q[...], k[...])
        scores = tile_scores(bias, products, positions_q[0], positions_k[0])
        mask = tile_mask(segments_q[0], segments_k[0])
        store(update(stored(), scores, mask, v[...]))

    @pl.when(j == pl.num_programs(3) - 1)
    def end() -> None:
        out, log = finalize(stored())
        context[...] = out.astype(context.dtype)
        # Transposing whole registers takes half the time of transposing one column.
        lse[...] = jnp.broadcast_to(log, (len(log), LANES)).T[:1]


def attend_padded(
    tiling: Tiling, interpret: bool, bias: Bias | None, padded: Padded
) -> tuple[Queries, Lse]:
    """The context and the log sum exp of arguments padded to whole tiles."""
    q, k, v, positions, segments, ranges = padded
    (b, n, t, h), s = q.shape, k.shape[2]
    size_q, size_k, _ = tiling
    leaves, tree = jax.tree.flatten(bias)
    parameters = [parameter(leaf) for leaf in leaves]
    needed = partial(range_of, n, t // size_q)

    def rebuild(head: Any, refs: list[Any]) -> Bias | None:
        values = [leaf.read(ref, head) for leaf, ref in zip(parameters, refs, strict=True)]
        return jax.tree.unflatten(tree, values)

    def key(row: Any, head: Any, i: Any, j: Any, *ranges: Any) -> Any:
        tiles = needed(row, head, i, ranges)
        return tiles.tile(jnp.minimum(j, jnp.maximum(tiles.total() - 1, 0)))

    queries = pl.BlockSpec(
        (None, None, size_q, h), lambda row, head, i, j, *ranges: (row, head, i, 0)
    )
    keys = pl.BlockSpec(
        (None, None, size_k, h),
        lambda row, head, i, j, *ranges: (row, head, key(row, head, i, j, *ranges), 0),
    )
    tokens_q = pl.BlockSpec((None, 1, size_q), lambda row, head, i, j, *ranges: (row, 0, i))
    tokens_k = pl.BlockSpec(
        (None, 1, size_k), lambda row, head, i, j, *ranges: (row, 0, key(row, head, i, j, *ranges))
    )
    logs = pl.BlockSpec((None, None, 1, size_q), lambda row, head, i, j, *ranges: (row, head, 0, i))
    # Shapes that also say, inside shard_map, over which devices a result varies.
    results = jax.eval_shape(lambda x: (x, x[:, :, None, :, 0].astype(jnp.float32)), q)
    context, lse = pl.pallas_call(
        partial(one_step, rebuild, needed),
        out_shape=results,
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=RANGES,
            grid=(b, n, t // size_q, s // size_k),
            in_specs=[
                *(queries, keys, keys, tokens_q, tokens_k, tokens_q, tokens_k),
                *(leaf.spec for leaf in parameters),
            ],
            out_specs=(queries, logs),
            scratch_shapes=[
                pltpu.VMEM((size_q, width), jnp.float32) for width in (1, 1, h)
            ],  # a State
        ),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")
        ),
        cost_estimate=cost(padded, size_q),
        interpret=interpret,
        name="attention",
    )(
        *(x.reshape(-1) for x in ranges),
        *(q, k, v),
        *(positions[:, None], positions[:, None], segments[:, None], segments[:, None]),
        *(leaf.array for leaf in parameters),
    )
    return context, lse[:, :, 0]


def cost(padded: Padded, size_q: int) -> pl.CostEstimate:
    """Two products and an exponential per score; keys and values are read per tile of queries."""
    (b, n, t, h), s = padded.q.shape, padded.k.shape[2]
    per_head = (2 * t * h + 2 * (t // size_q) * s * h) * padded.q.dtype.itemsize
    return pl.CostEstimate(
        flops=4 * b * n * t * s * h, transcendentals=b * n * t * s, bytes_accessed=b * n * per_head
    )


def check(q: Queries, tiling: Tiling) -> None:
    """Raise NotImplementedError for queries that the kernel compiler does not support."""
    b, n, t, h = q.shape
    if q.dtype not in (jnp.float32, jnp.bfloat16):
        raise NotImplementedError(f"queries are {q.dtype}; the kernel takes float32 or bfloat16")
    if h > WIDEST:
        raise NotImplementedError(f"heads are {h} wide; the kernel takes at most {WIDEST}")
    if (tiles := b * n * -(-t // tiling.queries)) > MOST_TILES:
        raise NotImplementedError(
            f"{b} rows of {n} heads make {tiles} tiles of queries; the kernel takes at most "
            f"{MOST_TILES}, so pass fewer rows at once"
        )


@dataclass(frozen=True)
class Tpu(Tiled):
    """One Pallas kernel; queries, keys: sizes of a tile, the larger a multiple of the smaller.

    Queries are float32 or bfloat16. interpret=True runs on any device, slowly.
    """

    name: ClassVar[str] = "tpu"

    queries: int = 512
    keys: int = 1024
    tolerance: float = 1e-7
    interpret: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for tile sizes that do not fit each other or the registers."""
        small, large = sorted((self.queries, self.keys))
        if small < 1 or large % small or not (self.interpret or small % LANES == 0):
            raise ValueError(
                f"tiles of {self.queries} queries and {self.keys} keys; choose multiples of "
                f"{LANES}, the larger a multiple of the smaller"
            )

    def tiling(self, q: Queries, bias: Bias | None) -> Tiling:
        """The tile sizes, no larger than the text needs.

        Raises NotImplementedError for a bias that looks something up, and for queries
        that the kernel compiler does not support.
        """
        t, small = q.shape[2], min(self.queries, self.keys)
        step = min(small, LANES) if t <= small else small
        most = t + -t % step
        tiling = Tiling(min(self.queries, most), min(self.keys, most), self.tolerance)
        check_traceable(bias)
        check(q, tiling)
        return tiling

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
        """The context [b, n, t, h] and the log sum exp [b, n, t], without the padding."""
        t, bias = q.shape[2], arithmetic(bias)
        padded = pad_to_tiles(tiling, q, k, v, bias, positions, segments)
        context, lse = attend_padded(tiling, self.interpret, bias, padded)
        return context[:, :, :t], lse[:, :, :t]


tpu = Tpu()
