"""Which tiles are left out: the bound holds, something is skipped, nothing that matters is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert.model.attention import Blockwise
from jaxbert.model.attention.tiles import tile_ranges
from jaxbert.model.position import AlibiBias, Bias
from jaxbert.model.position_schemes import SumBias
from tests.model.test_positions import BIASES
from tests.tolerances import FUNCTION

T, H = 61, 5
QUERIES, KEYS = 7, 3
SLOPES = jnp.asarray([2.0, 0.25, 0.03], jnp.float32)
ALIBI = AlibiBias(SLOPES)
EVERYTHING = jnp.ones((T,), jnp.int32)
POSITIONS = jnp.arange(T, dtype=jnp.int32)


def draw(seed, size):
    random = np.random.default_rng(seed)
    q, k, v = size * random.normal(size=(3, T, H)).astype(np.float32)
    return q, k + random.normal(size=H).astype(np.float32), v


def softmax(q, k, slope, positions, segments):
    """The probabilities of one head in float64; zeros for padding."""
    q, k = q.astype(np.float64), k.astype(np.float64)
    distance = np.abs(positions[:, None] - positions[None, :])
    scores = q @ k.T / np.sqrt(H) - slope * distance
    seen = (segments[:, None] == segments[None, :]) & (segments != 0)[None, :]
    top = np.where(seen, scores, -np.inf).max(axis=1, keepdims=True)
    weights = np.where(seen, np.exp(scores - np.where(seen.any(1, keepdims=True), top, 0)), 0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)


def ranges_at(tolerance):
    def one_head(bias, q, k, positions, segments):
        return tile_ranges(q, k, bias, positions, segments, QUERIES, KEYS, tolerance)

    heads = jax.jit(jax.vmap(one_head, in_axes=(0, None, None, None, None)))
    return lambda q, k, *positions, bias=ALIBI: heads(bias, q, k, *positions)


RANGES = {tolerance: ranges_at(tolerance) for tolerance in (0.0, 1e-7, 1e-2)}
CONTEXTS = {t: jax.jit(Blockwise(QUERIES, KEYS, t)) for t in RANGES}
layouts = st.sampled_from(["one text", "packed", "padded", "gaps", "backwards"])


def layout(name):
    """Positions and segments of a row."""
    positions, segments = np.arange(T), np.ones(T, int)
    if name == "packed":
        segments = np.repeat([1, 2, 3], [17, 31, 13])
        positions = np.concatenate([np.arange(17), np.arange(31), np.arange(13)])
    if name == "padded":
        segments = (positions < 41).astype(int)
    if name == "gaps":
        positions = positions * 5
    if name == "backwards":
        positions = positions[::-1].copy()
    return positions.astype(np.int32), segments.astype(np.int32)


def inside(ranges):
    """[n, i, T]: True for the keys that a tile of queries of a head computes."""
    tile = np.arange(T) // KEYS
    first, stop, gap_first, gap_stop = (np.asarray(x)[..., None] for x in ranges)
    return (tile >= first) & (tile < stop) & ((tile < gap_first) | (tile >= gap_stop))


@pytest.mark.parametrize("tolerance", RANGES)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.1, 4.0), name=layouts)
def test_what_is_left_out_has_at_most_half_the_tolerance(tolerance, seed, size, name):
    q, k, _ = draw(seed, size)
    positions, segments = layout(name)
    ranges = RANGES[tolerance](q, k, positions, segments)
    for slope, computed in zip(SLOPES, inside(ranges), strict=True):
        kept = computed[np.arange(T) // QUERIES]
        p = softmax(q, k, float(slope), positions, segments)
        assert np.where(kept, 0.0, p).sum(axis=1).max() <= tolerance / 2


class Needle(Bias):
    """0 at the same position, -c at any other: the bounds are as tight as they can be."""

    def __init__(self, c):
        self.c = c

    def __call__(self, pos_q, pos_k):
        return self.upper(jnp.abs(pos_q[:, None] - pos_k[None, :]))

    def upper(self, distance):
        return jnp.where(distance == 0, 0.0, -self.c)


@pytest.mark.parametrize(
    ("positions", "segments"),
    [(np.arange(T), np.ones(T)), (np.arange(T) // QUERIES, 1 + (np.arange(T) > 28))],
    ids=["the keys of a tile add up", "a tile of two texts is no sum of one"],
)
def test_the_bound_holds_where_it_is_tight(positions, segments):
    positions, segments = positions.astype(np.int32), segments.astype(np.int32)
    zeros, tolerance = np.zeros((T, H), np.float32), 1e-2
    weight = tolerance / 4 / 9  # of a key elsewhere: nine of them may be left out on a side
    bias = Needle(-jnp.log(jnp.asarray([weight], jnp.float32)))
    ranges = RANGES[tolerance](zeros, zeros, positions, segments, bias=bias)
    seen = segments[:, None] == segments[None, :]
    weights = np.where(positions[:, None] == positions[None, :], 1.0, weight) * seen
    p = weights / weights.sum(axis=1, keepdims=True)
    kept = inside(ranges)[0, np.arange(T) // QUERIES]
    left_out = np.where(kept, 0.0, p).sum(axis=1).max()
    assert 0 < left_out <= tolerance / 2


def share(ranges):
    """How many of all tiles are computed."""
    return float(ranges.total().sum() / ranges.first.size / -(-T // KEYS))


def test_something_is_skipped_and_more_under_a_larger_tolerance():
    q, k, _ = draw(0, 0.3)
    shares = [share(RANGES[t](q, k, POSITIONS, EVERYTHING)) for t in (0.0, 1e-7, 1e-2)]
    assert shares[0] == 1.0
    assert shares[1] < 0.85
    assert shares[2] < 0.9 * shares[1]


def test_a_constant_in_all_keys_changes_nothing():
    """Softmax does not see it; nor should the bound, whose norms it would swell."""
    q, k, _ = draw(1, 0.3)
    a, b = (RANGES[1e-7](q, k + c, POSITIONS, EVERYTHING) for c in (0, np.float32(50)))
    assert abs(share(a) - share(b)) < 0.02


def test_no_tile_of_padding_or_of_another_text_is_computed():
    q, k, _ = draw(2, 0.3)
    for name, tolerance in (("packed", 0.0), ("padded", 1e-7)):
        positions, segments = layout(name)
        first, stop, *_ = map(np.asarray, RANGES[tolerance](q, k, positions, segments))
        for i, (a, b) in enumerate(zip(first[2], stop[2], strict=True)):
            queries = segments[i * QUERIES : (i + 1) * QUERIES]
            keys = segments[a * KEYS : b * KEYS]
            assert set(queries) - {0} == set(keys) & set(queries) - {0}
            if not queries.any():
                assert a == b
    assert share(RANGES[0.0](q, k, *layout("packed"))) < 0.6


def test_a_key_that_is_far_and_loud_is_kept():
    q, k, _ = draw(3, 0.1)
    k[-1] = 400 * q[0]
    ranges = RANGES[1e-7](q, k, POSITIONS, EVERYTHING)
    assert inside(ranges)[1, 0, -1]


class Unknown(Bias):
    """ALiBi that does not say how it decays."""

    def __init__(self, slopes):
        self.slopes = slopes

    def __call__(self, pos_q, pos_k):
        return -self.slopes * jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)


def test_a_bias_that_does_not_say_how_it_decays_is_computed_whole():
    q, k, _ = draw(4, 0.3)
    unknown, known = Unknown(SLOPES), ALIBI
    for bias, skips in ((unknown, False), (known, True), (SumBias(unknown, known), False)):
        ranges = RANGES[1e-7](q, k, POSITIONS, EVERYTHING, bias=bias)
        assert (share(ranges) < 1.0) == skips


@pytest.mark.parametrize("name", BIASES)
def test_upper_is_a_bound(name):
    positions = jnp.arange(41, dtype=jnp.int32)
    distance = np.abs(np.arange(41)[:, None] - np.arange(41)[None, :])
    heads = jax.vmap(lambda head: (head(positions, positions), head.upper(positions)))
    terms, upper = map(np.asarray, heads(BIASES[name].bias))
    for d in range(41):
        room = FUNCTION * np.abs(upper[:, d])
        assert (terms[:, distance >= d].max(axis=1) <= upper[:, d] + room).all()


@pytest.mark.parametrize("tolerance", [1e-7, 1e-2])
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(0.1, 4.0), name=layouts)
def test_a_context_moves_by_at_most_the_tolerance(tolerance, seed, size, name):
    q, k, v = (x[None, None].repeat(3, axis=1) for x in draw(seed, size))
    positions, segments = (x[None] for x in layout(name))
    skipping, whole = (
        np.asarray(CONTEXTS[t](q, k, v, ALIBI, positions, segments)) for t in (tolerance, 0.0)
    )
    assert np.abs(skipping - whole).max() <= (tolerance + FUNCTION) * np.abs(v).max()


def test_a_skipped_tile_is_not_even_read():
    q, k, v = (x[None, None].repeat(3, axis=1) for x in draw(5, 0.3))
    v[..., -KEYS:, :] = np.nan
    arguments = (POSITIONS[None], EVERYTHING[None])
    got = np.asarray(CONTEXTS[1e-2](q, k, v, ALIBI, *arguments))
    assert np.isfinite(got[0, 0, :QUERIES]).all()
    assert np.isnan(got[0, 0, -QUERIES:]).all()


def test_not_a_number_in_a_query_or_key_is_not_skipped():
    for which, sees_it in ((0, -1), (1, 0)):  # itself; every query, also the farthest
        arrays = [x[None, None].repeat(3, axis=1) for x in draw(6, 0.3)]
        arrays[which][..., -1, :] = np.nan
        got = CONTEXTS[1e-7](*arrays, ALIBI, POSITIONS[None], EVERYTHING[None])
        assert np.isnan(np.asarray(got)[0, :, sees_it]).all()
