"""Every implementation of attention against the reference, on drawn masks, segments and biases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from jaxbert.model import reference
from jaxbert.model.attention import Blockwise, blockwise, dense, folded, probabilities
from jaxbert.model.attention.gpu import Gpu
from jaxbert.model.attention.tpu import Tpu
from jaxbert.model.position import Alibi, Bias
from tests.model.test_positions import BIASES
from tests.tolerances import BFLOAT16, BFLOAT16_ROUNDING, ENCODER, FUNCTION, ONE_HOT, close, largest

B, N, T, H = 2, 3, 7, 5
BLOCK = 256
IMPLEMENTATIONS = {
    "dense": dense,
    "folded": folded,
    "blockwise": blockwise,
    "blockwise, small tiles": Blockwise(queries=3, keys=5),
    "tpu kernel": Tpu(queries=128, keys=128, interpret=True),
    "gpu kernel": Gpu(queries=32, keys=16, interpret=True),
}
ATTENTIONS = {name: jax.jit(attend) for name, attend in IMPLEMENTATIONS.items()}
each = pytest.mark.parametrize("attend", ATTENTIONS.values(), ids=ATTENTIONS)
# Every tiled implementation with every scheme.
TILED = [(kind, name) for kind in list(IMPLEMENTATIONS)[1:] for name in [*BIASES, "none"]]


def row(length):
    return jnp.arange(length, dtype=jnp.int32)[None]


POSITIONS = row(T)


def draw(seed, b=B, t=T):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(3, b, N, t, H)).astype(np.float32))


@each
@given(seed=st.integers(0, 2**32 - 1), masked=st.integers(0, 2 ** (B * T) - 1))
def test_agrees_with_the_reference_under_any_mask(attend, seed, masked):
    q, k, v = draw(seed)
    mask = np.array([(masked >> i) & 1 for i in range(B * T)], np.int32).reshape(B, T)
    got = attend(q, k, v, Alibi(N).bias, POSITIONS, mask)
    expected = reference.attention(q, k, v, mask.astype(bool), reference.alibi(N, T))
    valid = np.broadcast_to((mask == 1)[:, None, :], (B, N, T))
    close(np.asarray(got)[valid], expected[valid], FUNCTION)
    np.testing.assert_array_equal(np.asarray(got)[~valid], 0.0)


@each
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_segments_are_attended_one_by_one(attend, seed, data):
    q, k, v = draw(seed)
    segments = np.array(data.draw(st.lists(st.integers(0, 3), min_size=B * T, max_size=B * T)))
    segments = segments.reshape(B, T).astype(np.int32)
    got = np.asarray(attend(q, k, v, Alibi(N).bias, POSITIONS, segments))
    for number in (1, 2, 3):
        mask = segments == number
        expected = reference.attention(q, k, v, mask, reference.alibi(N, T))
        valid = np.broadcast_to(mask[:, None, :], (B, N, T))
        close(got[valid], expected[valid], FUNCTION)


def ragged(length):
    """Segments of two packed texts and padding in the first row, one text in the second."""
    index = np.arange(length)
    first = np.where(index < length // 3, 1, np.where(index < length - 2, 2, 0))
    return jnp.asarray(np.stack([first, np.ones(length)]).astype(np.int32))


# At one token and at a power of two the sum of schemes stands for its parts; 389 and 131 have each.
LENGTHS = {
    "1": (1, jnp.float32, ("alibi + t5", "none")),
    "128": (128, jnp.float32, ("alibi + t5", "none")),
    "389": (389, jnp.float32, (*BIASES, "none")),
    "131 in bfloat16": (131, jnp.bfloat16, (*BIASES, "none")),
}
CASES = [
    pytest.param(kind, name, length, dtype, id=f"{kind}-{name}-{title}")
    for kind, name in TILED
    for title, (length, dtype, names) in LENGTHS.items()
    if name in names
]


@pytest.mark.parametrize(("kind", "name", "length", "dtype"), CASES)
def test_is_dense_for_every_scheme_and_odd_lengths(kind, name, length, dtype):
    """Lengths of one token, of one tile, of one more and of several tiles; packed and padded."""
    q, k, v = draw(length, t=length).astype(dtype)
    bias = None if name == "none" else BIASES[name].bias
    arguments = q, k, v, bias, row(length), ragged(length)
    got = ATTENTIONS[kind](*arguments)
    assert got.dtype == dtype
    tolerance = FUNCTION if dtype == jnp.float32 else BFLOAT16_ROUNDING
    expected = np.asarray(jax.jit(dense)(*arguments), np.float32)
    close(got, expected, tolerance)


@functools.cache
def gradients(kind, name):
    """Those of a scalar of what one implementation gives with one scheme, over several tiles."""
    length = 131
    arguments, attend = draw(5, t=length), IMPLEMENTATIONS[kind]

    def scalar(qkv, bias):
        return jnp.sin(attend(*qkv, bias, row(length), ragged(length))).sum()

    return jax.jit(jax.grad(scalar, argnums=(0, 1)))(tuple(arguments), BIASES[name].bias)


@pytest.mark.parametrize(("kind", "name"), [case for case in TILED if case[1] != "none"])
def test_has_the_gradients_of_dense(kind, name):
    ours, theirs = gradients(kind, name), gradients("dense", name)
    leaves = zip(*map(jax.tree.leaves, (ours, theirs)), strict=True)
    for a, b in leaves:
        assert largest(b) < 1e3
        close(a, b, ENCODER, max(1.0, largest(b)))


class Halved(Bias):
    """A bias that computes in the dtype of its slopes."""

    def __init__(self, slopes):
        self.slopes = slopes

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        return -self.slopes * distance.astype(self.slopes.dtype)


@pytest.mark.parametrize("attend", list(IMPLEMENTATIONS.values())[2:4])
def test_a_bias_in_bfloat16_has_its_gradient(attend):
    length = 17
    q, k, v = draw(8, t=length)
    bias = Halved(jnp.asarray([0.5, 0.25, 0.125], jnp.bfloat16))

    def scalar(bias):
        return jnp.sin(attend(q, k, v, bias, row(length), ragged(length))).sum()

    got = jax.jit(jax.grad(scalar))(bias).slopes
    wide = Halved(bias.slopes.astype(jnp.float32))
    expected = jax.jit(jax.grad(scalar))(wide).slopes
    assert got.dtype == jnp.bfloat16
    assert np.abs(expected).max() > 1
    close(got, expected, BFLOAT16)


@each
def test_can_be_mapped_over_an_axis_and_scanned(attend):
    q, k, v = draw(3)
    ones, bias = jnp.ones((B, T), jnp.int32), Alibi(N).bias
    expected = np.asarray(attend(q, k, v, bias, POSITIONS, ones))
    mapped = jax.vmap(attend, in_axes=(None, None, 0, None, None, None))
    twice = np.asarray(mapped(q, k, jnp.stack([v, 2 * v]), bias, POSITIONS, ones))
    close(twice, np.stack([expected, 2 * expected]), FUNCTION)
    _, steps = jax.lax.scan(lambda c, v: (c, attend(q, k, v, bias, POSITIONS, ones)), 0, v[None])
    close(steps[0], expected, FUNCTION)


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
def test_the_memory_of_blockwise_is_linear_in_the_length(gradient):
    def scalar(q, k, v, bias, positions, segments):
        return blockwise(q, k, v, bias, positions, segments).sum()

    function = jax.jit(jax.grad(scalar, argnums=(0, 1, 2)) if gradient else scalar)

    def temporary(length):
        q, k, v = draw(0, b=1, t=length)
        lowered = function.lower(q, k, v, Alibi(N).bias, row(length), jnp.ones_like(row(length)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary(16 * BLOCK) < 2.5 * temporary(8 * BLOCK)


@each
def test_large_scores_do_not_overflow(attend):
    q, k, v = draw(0)
    got = attend(q * 1e3, k * 1e3, v, None, POSITIONS, jnp.ones((B, T), jnp.int32))
    assert np.isfinite(np.asarray(got)).all()
    best = np.einsum("bnth,bnsh->bnts", q, k).argmax(-1)
    close(got, np.take_along_axis(v, best[..., None], 2), ONE_HOT)


def test_probabilities_are_what_attention_multiplies():
    q, k, v = draw(1)
    ones = jnp.ones((B, T), jnp.int32)
    maps = np.asarray(probabilities(q, k, Alibi(N).bias, POSITIONS, ones))
    close(maps.sum(-1), 1.0, FUNCTION)
    context = np.einsum("bnts,bnsh->bnth", maps, v)
    got = np.asarray(dense(q, k, v, Alibi(N).bias, POSITIONS, ones))
    close(got, context, FUNCTION)


@each
def test_the_same_call_gives_the_same_bits(attend):
    q, k, v = draw(2)
    ones = jnp.ones((B, T), jnp.int32)
    a, b = (np.asarray(attend(q, k, v, Alibi(N).bias, POSITIONS, ones)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("attend", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_shapes_are_checked_in_these_tests(attend):
    q, k, v = draw(3)
    with pytest.raises(TypeCheckError):
        attend(q, k[:1], v, None, POSITIONS, jnp.ones((B, T), jnp.int32))
    with pytest.raises(TypeCheckError):
        attend(q, k, v, None, POSITIONS, jnp.ones((B, T + 1), jnp.int32))
