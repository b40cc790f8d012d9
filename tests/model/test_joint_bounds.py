"""Bounds of pairs of positions: windows with global tokens, a gap in a range, capped scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbert import Bias
from jaxbert.model.attention import Blockwise, dense
from jaxbert.model.attention.dense import LOWEST
from jaxbert.model.attention.gpu import Gpu
from jaxbert.model.attention.tiles import tile_ranges
from jaxbert.model.attention.tpu import Tpu
from jaxbert.model.position import PositionRange, distance_between
from jaxbert.model.position_schemes import SumBias
from tests.model import test_tiles as tiles
from tests.model.test_positions import BIASES
from tests.tolerances import ENCODER, FUNCTION, close

N, WIDTH = 3, 5


def row(length):
    return jnp.arange(length, dtype=jnp.int32)[None]


class LocalGlobal(Bias):
    """Keys at most `width` away, and all pairs with a token at first ... last, as in Longformer."""

    def __init__(self, width, first, last):
        self.width, self.first, self.last = (
            jnp.full((N,), x, jnp.int32) for x in (width, first, last)
        )

    def term(self, distance, queries, keys):
        meets = [(x.low <= self.last) & (x.high >= self.first) for x in (queries, keys)]
        return jnp.where((distance <= self.width) | meets[0] | meets[1], 0.0, LOWEST)

    def __call__(self, pos_q, pos_k):
        q, k = pos_q[:, None], pos_k[None, :]
        return self.term(jnp.abs(q - k), PositionRange(q, q), PositionRange(k, k))

    def upper_tile(self, queries, keys):
        return self.term(distance_between(queries, keys), queries, keys)


class CappedLocalGlobal(LocalGlobal):
    """2 tanh(score / 2) where a key is seen."""

    def score(self, scores, pos_q, pos_k):
        return 2.0 * jnp.tanh(scores / 2.0) + self(pos_q, pos_k)

    def upper_score(self, largest, queries, keys):
        return jnp.minimum(largest, 2.0) + self.upper_tile(queries, keys)


class Shrunk(LocalGlobal):
    """ALiBi on a third of the scores, without windows: a bound that decays."""

    def score(self, scores, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return scores / 3.0 - 0.5 * distance

    def upper_score(self, largest, queries, keys):
        return largest / 3.0 - 0.5 * distance_between(queries, keys).astype(jnp.float32)


GLOBAL = {
    "local and global": LocalGlobal,
    "with a cap": CappedLocalGlobal,
    "a third": Shrunk,
    "with ALiBi": lambda *args: SumBias(tiles.ALIBI, LocalGlobal(*args)),
    "ALiBi capped": lambda *args: SumBias(tiles.ALIBI, CappedLocalGlobal(*args)),
}


@functools.cache
def scores_and_ranges(tolerance):
    """Of each head: its scores, its terms, and the tiles that it computes."""

    def one_head(bias, q, k, positions, segments):
        products = jnp.einsum("th,sh->ts", q, k, precision="highest") / q.shape[1] ** 0.5
        scores = bias.score(products, positions, positions)
        sizes = tiles.QUERIES, tiles.KEYS
        ranges = tile_ranges(q, k, bias, positions, segments, *sizes, tolerance)
        return scores, ranges

    return jax.jit(jax.vmap(one_head, in_axes=(0, None, None, None, None)))


def left_out(bias, q, k, positions, segments, tolerance=1e-2):
    """The largest share of a query's softmax, in float64, that lies in tiles not computed."""
    scores, ranges = scores_and_ranges(tolerance)(bias, q, k, positions, segments)
    real, seen = segments != 0, segments[:, None] == segments[None, :]
    scores = np.where(seen & real[None, :], np.asarray(scores, np.float64), -np.inf)[:, real]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    kept = tiles.inside(ranges)[:, np.arange(tiles.T) // tiles.QUERIES][:, real]
    return (np.where(kept, 0.0, weights).sum(-1) / weights.sum(-1)).max()


@pytest.mark.parametrize("case", GLOBAL)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.floats(0.1, 4.0),
    same=st.booleans(),
    name=tiles.layouts,
    width=st.integers(0, 9),
    first=st.integers(0, 70),
    tokens=st.integers(0, 9),
)
@settings(max_examples=40)
def test_what_a_bound_of_position_pairs_leaves_out_has_half_the_tolerance(
    case, seed, size, same, name, width, first, tokens
):
    q, k, _ = tiles.draw(seed, size)
    bias = GLOBAL[case](width, first, first + tokens - 1)
    # With queries that are their own keys, the score of each with itself is large.
    assert left_out(bias, q, q if same else k, *tiles.layout(name)) <= 1e-2 / 2


def test_a_loud_key_of_another_text_does_not_count():
    """Queries 14 and 15 share a tile with text 2, whose keys they would score high."""
    q, k = np.zeros((2, tiles.T, tiles.H), np.float32)
    segments = 1 + (np.arange(tiles.T) > 15)
    q[:, 0], k[:, 0] = 1.0, np.where(segments == 2, 50.0, 0.0)
    positions = np.arange(tiles.T, dtype=np.int32)
    share = left_out(Shrunk(0, 0, 0), q, k, positions, segments.astype(np.int32))
    assert 0 < share <= 1e-2 / 2


def test_a_global_token_leaves_a_gap_and_without_one_there_is_none():
    """4096 tokens, windows of 128, tiles of 512: three tiles on the way, and that of the token."""
    zeros, pos = jnp.zeros((4096, 1), jnp.float32), jnp.arange(4096, dtype=jnp.int32)

    @jax.jit
    def computed(bias):
        head = jax.tree.map(lambda leaf: leaf[0], bias)
        return tile_ranges(zeros, zeros, head, pos, jnp.ones_like(pos), 512, 512, 1e-7).total()

    np.testing.assert_array_equal(computed(LocalGlobal(128, 0, -1)), [2, 3, 3, 3, 3, 3, 3, 2])
    np.testing.assert_array_equal(computed(LocalGlobal(128, 0, 0)), [8, 3, 4, 4, 4, 4, 4, 3])
    np.testing.assert_array_equal(computed(LocalGlobal(128, 2100, 2200)), [3, 4, 4, 3, 8, 3, 4, 3])


LONG = 83
GAPPED = {
    "blockwise": Blockwise(queries=16, keys=16),
    "tpu": Tpu(queries=16, keys=16, interpret=True),
    "gpu": Gpu(queries=16, keys=16, interpret=True),
}


@pytest.mark.parametrize("name", GAPPED)
def test_tiles_in_the_gap_are_not_computed_and_the_others_are_dense(name):
    random = np.random.default_rng(5)
    q, k, v = jnp.asarray(random.normal(size=(3, 1, N, LONG, WIDTH)).astype(np.float32))
    ones, bias = jnp.ones((1, LONG), jnp.int32), LocalGlobal(3, 0, 0)

    def gradient(attention):
        def scalar(v, q):
            context = attention(q, k, v, bias, row(LONG), ones)
            return jnp.sin(context[:, :, 64:]).sum(), context

        return jax.jit(jax.grad(scalar, argnums=(0, 1), has_aux=True))

    poisoned = v.at[:, :, 16:48].set(jnp.nan)
    (d_v, d_q), context = gradient(GAPPED[name])(poisoned, q)
    expected, whole = gradient(dense)(v, q)
    close(context[:, :, 64:], whole[:, :, 64:], FUNCTION)
    close(d_v, expected[0], ENCODER)
    close(d_q[:, :, 64:], expected[1][:, :, 64:], ENCODER)
    assert np.isnan(context[:, :, :64]).all()


@pytest.mark.parametrize("name", [*BIASES, "local and global"])
def test_a_bound_of_position_pairs_is_one(name):
    """On 200 tiles of four queries and four keys, which may be far apart, near or the same."""
    both = SumBias(tiles.ALIBI, LocalGlobal(3, 11, 12))
    bias = both if name == "local and global" else BIASES[name].bias

    def one_tile(head, q, k):
        ranges = (PositionRange(x.min(), x.max()) for x in (q, k))
        return head(q, k).max(), head.upper_tile(*ranges)

    drawn = np.random.default_rng(0).integers(0, 7, (2, 200, 4)).cumsum(axis=2)
    q, k = jnp.asarray(
        drawn + np.arange(2)[:, None, None] * np.arange(200)[:, None] % 47, jnp.int32
    )
    heads = jax.vmap(one_tile, in_axes=(0, None, None))
    terms, bounds = jax.jit(jax.vmap(heads, in_axes=(None, 0, 0)))(bias, q, k)
    assert (terms <= bounds + FUNCTION * np.abs(bounds)).all()
    assert (terms > bounds - 5).mean() > 0.1
