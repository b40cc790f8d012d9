"""Exact attention on NVIDIA GPUs: one program per tile of queries, its scores never in memory.

A Pallas kernel, lowered through Triton. A program keeps the state of the online softmax in
registers while it runs over the tiles of keys that its queries need; the bias is computed from
positions, tile by tile.
Source: Dao et al., arXiv:2205.14135, section 3.1; Dao, arXiv:2307.08691, section 3.1.
"""

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxbert.model.attention.backward import Tiling
from jaxbert.model.attention.kernel import arithmetic, check_traceable, pad_axis, pad_to_tiles
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

# Triton's arrays have powers of two as sizes, and its products at least 16 rows and columns.
SMALLEST = 16
# Beyond, a tile of keys and one of values leave no room in shared memory for the next two.
WIDEST = 256
# float32 products run without tensor cores, from registers, which hold tiles up to these sizes:
# numbers of a tile of queries, and keys.
FLOAT32_QUERIES, FLOAT32_KEYS = 4096, 32


def power_of_two(size: int) -> int:
    """The smallest power of two that is at least size and at least 16."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def one_tile(tree: Any, keys: int, width: int, *refs: Any) -> None:
    """The context and the log sum exp of one tile of queries of one head.

    keys is the number of keys of a tile, width is h before padding; refs are the blocks that
    Gpu.forward specifies, without the axes of row and head.
    """
    *ranges, q_ref, k_ref, v_ref, pos_q_ref, pos_k_ref, segments_q_ref, segments_k_ref = refs[:11]
    *leaves, context_ref, lse_ref = refs[11:]
    needed = TileRange(*(x[...] for x in ranges))
    bias = jax.tree.unflatten(tree, [leaf[...] for leaf in leaves])
    q, pos_q, segments_q = q_ref[...], pos_q_ref[...], segments_q_ref[...]

    def step(i: jax.Array, state: State) -> State:
        tile = pl.ds(needed.tile(i) * keys, keys)
        products = tile_products(q, k_ref[tile, :], width)
        scores = tile_scores(bias, products, pos_q, pos_k_ref[tile])
        return update(state, scores, tile_mask(segments_q, segments_k_ref[tile]), v_ref[tile, :])

    context, lse = finalize(jax.lax.fori_loop(0, needed.total(), step, initial_state(*q.shape)))
    context_ref[...] = context.astype(context_ref.dtype)
    lse_ref[...] = lse.reshape(-1)


def head_block(leaf: jax.Array) -> pl.BlockSpec:
    """The block of one head in a leaf [n, ...] of the bias."""
    rest = leaf.shape[1:]
    return pl.BlockSpec((None, *rest), lambda i, n, b: (n, *(0 for _ in rest)))


def quiet() -> None:
    """Silence jax 0.11's notice about Triton, which users cannot act on.

    It comes when the program around the kernel is lowered, where no context of ours is open; so
    the filter is set for the process, for this message alone, at each trace: a test runner puts
    its own filters back between tests.
    """
    warnings.filterwarnings("ignore", "The Pallas Triton backend is dep", DeprecationWarning)


@dataclass(frozen=True)
class Gpu(Tiled):
    """One Triton kernel.

    queries and keys are the sizes of a tile, powers of two from 16 on; float32 and shorter texts
    have smaller ones. interpret=True runs the operations one by one on any device, for tests.
    """

    name: ClassVar[str] = "gpu"

    queries: int = 128
    keys: int = 64
    num_warps: int = 8
    num_stages: int = 2
    tolerance: float = 1e-7
    interpret: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for a tile size that is no power of two from 16 on."""
        for size in (self.queries, self.keys):
            if size != power_of_two(size):
                raise ValueError(f"{size} is no size of a tile: powers of two from 16 on are")

    def tiling(self, q: Queries, bias: Bias | None) -> Tiling:
        """The tile sizes, limited by the length of the text and by what a program can hold.

        Raises NotImplementedError for a bias that looks something up, and for heads of
        more than 256 numbers.
        """
        check_traceable(bias)
        quiet()
        longest, wide = map(power_of_two, q.shape[2:])
        if wide > WIDEST:
            raise NotImplementedError(f"heads of {q.shape[3]} numbers; the kernel takes {WIDEST}")
        queries, keys = min(self.queries, longest), min(self.keys, longest)
        if q.dtype == jnp.float32:
            queries, keys = min(queries, FLOAT32_QUERIES // wide), min(keys, FLOAT32_KEYS)
        return Tiling(queries, keys, self.tolerance)

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
        """The context [b, n, t, h] and the log sum exp [b, n, t]; the grid is (tile, head, row)."""
        rows, heads, length, width = q.shape
        bias = arithmetic(bias)
        padded = pad_to_tiles(tiling, q, k, v, bias, positions, segments)
        wide = [pad_axis(x, 3, power_of_two(width)) for x in (padded.q, padded.k, padded.v)]
        leaves, tree = jax.tree.flatten(bias)
        t, h = wide[0].shape[2:]

        tile = pl.BlockSpec((None, None, tiling.queries, h), lambda i, n, b: (b, n, i, 0))
        every = pl.BlockSpec((None, None, t, h), lambda i, n, b: (b, n, 0, 0))
        numbers = pl.BlockSpec((None, tiling.queries), lambda i, n, b: (b, i))
        all_numbers = pl.BlockSpec((None, t), lambda i, n, b: (b, 0))
        bound = pl.BlockSpec((None, None, None), lambda i, n, b: (b, n, i))
        lses = pl.BlockSpec((None, None, tiling.queries), lambda i, n, b: (b, n, i))
        in_specs = [*(bound,) * 4, tile, every, every, *(numbers, all_numbers) * 2]

        context, lse = pl.pallas_call(
            partial(one_tile, tree, tiling.keys, width),
            grid=(t // tiling.queries, heads, rows),
            in_specs=[*in_specs, *map(head_block, leaves)],
            out_specs=(tile, lses),
            # Taken from q: inside shard_map a shape also says over which devices it varies.
            out_shape=jax.eval_shape(lambda q: (q, q[..., 0].astype(jnp.float32)), wide[0]),
            compiler_params=triton.CompilerParams(
                num_warps=self.num_warps, num_stages=self.num_stages
            ),
            interpret=self.interpret,
            name="attention",
        )(*padded.ranges, *wide, *(padded.positions,) * 2, *(padded.segments,) * 2, *leaves)
        return context[:, :, :length, :width], lse[:, :, :length]


gpu = Gpu()
