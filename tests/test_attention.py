"""Every implementation of attention against the reference, on drawn masks, segments and biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from jaxbert import reference
from jaxbert.attention import blockwise, dense, probabilities
from jaxbert.position import Alibi
from jaxbert.schemes import Sum
from tests.test_positions import BIASES
from tests.tolerances import BFLOAT16_ROUNDING, ENCODER, FUNCTION, ONE_HOT

B, N, T, H = 2, 3, 7, 5
BLOCK = 256
PLACES = jnp.arange(T, dtype=jnp.int32)[None]
ATTENTIONS = {"dense": jax.jit(dense), "blockwise": jax.jit(blockwise)}
each = pytest.mark.parametrize("attend", ATTENTIONS.values(), ids=ATTENTIONS)


def draw(seed, b=B, t=T):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(3, b, N, t, H)).astype(np.float32))


@each
@given(seed=st.integers(0, 2**32 - 1), masked=st.integers(0, 2 ** (B * T) - 1))
def test_agrees_with_the_reference_under_any_mask(attend, seed, masked):
    q, k, v = draw(seed)
    mask = np.array([(masked >> i) & 1 for i in range(B * T)], np.int32).reshape(B, T)
    got = attend(q, k, v, Alibi(N).bias, PLACES, mask)
    expected = reference.attention(q, k, v, mask.astype(bool), reference.alibi(N, T))
    valid = np.broadcast_to((mask == 1)[:, None, :], (B, N, T))
    np.testing.assert_allclose(np.asarray(got)[valid], expected[valid], atol=FUNCTION)
    np.testing.assert_array_equal(np.asarray(got)[~valid], 0.0)


@each
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_segments_are_attended_one_by_one(attend, seed, data):
    q, k, v = draw(seed)
    segments = np.array(data.draw(st.lists(st.integers(0, 3), min_size=B * T, max_size=B * T)))
    segments = segments.reshape(B, T).astype(np.int32)
    got = np.asarray(attend(q, k, v, Alibi(N).bias, PLACES, segments))
    for number in (1, 2, 3):
        mask = segments == number
        expected = reference.attention(q, k, v, mask, reference.alibi(N, T))
        valid = np.broadcast_to(mask[:, None, :], (B, N, T))
        np.testing.assert_allclose(got[valid], expected[valid], atol=FUNCTION)


def ragged(length):
    """Segments of two packed texts and padding in the first row, one text in the second."""
    place = np.arange(length)
    first = np.where(place < length // 3, 1, np.where(place < length - 2, 2, 0))
    return jnp.asarray(np.stack([first, np.ones(length)]).astype(np.int32))


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3])
@pytest.mark.parametrize("name", [*BIASES, "none"])
def test_blockwise_is_dense_for_every_scheme_and_odd_lengths(name, length):
    q, k, v = draw(length, t=length)
    bias = None if name == "none" else BIASES[name].bias
    places = jnp.arange(length, dtype=jnp.int32)[None]
    a, b = (f(q, k, v, bias, places, ragged(length)) for f in ATTENTIONS.values())
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=FUNCTION)


def test_blockwise_has_the_gradients_of_dense():
    length = BLOCK + 5
    arguments, segments = draw(5, t=length), ragged(length)
    places = jnp.arange(length, dtype=jnp.int32)[None]
    bias = Sum(Alibi(N), BIASES["t5"]).bias

    def loss(attend):
        def scalar(qkv, bias):
            return jnp.sin(attend(*qkv, bias, places, segments)).sum()

        return jax.jit(jax.grad(scalar, argnums=(0, 1)))

    ours, theirs = (loss(f)(tuple(arguments), bias) for f in (blockwise, dense))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        scale = max(1.0, float(jnp.abs(b).max()))
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), atol=ENCODER * scale)


def test_blockwise_in_bfloat16_is_near_dense():
    length = BLOCK + 5
    half = draw(6, t=length).astype(jnp.bfloat16)
    places = jnp.arange(length, dtype=jnp.int32)[None]
    a, b = (f(*half, Alibi(N).bias, places, ragged(length)) for f in ATTENTIONS.values())
    assert a.dtype == b.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        np.asarray(a, np.float32), np.asarray(b, np.float32), atol=BFLOAT16_ROUNDING
    )


@pytest.mark.parametrize("gradient", [False, True], ids=["forward", "backward"])
def test_the_memory_of_blockwise_is_linear_in_the_length(gradient):
    def scalar(q, k, v, bias, places, segments):
        return blockwise(q, k, v, bias, places, segments).sum()

    function = jax.jit(jax.grad(scalar, argnums=(0, 1, 2)) if gradient else scalar)

    def temporary(length):
        q, k, v = draw(0, b=1, t=length)
        places = jnp.arange(length, dtype=jnp.int32)[None]
        lowered = function.lower(q, k, v, Alibi(N).bias, places, jnp.ones_like(places))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporary(16 * BLOCK) < 2.5 * temporary(8 * BLOCK)


@each
def test_large_scores_do_not_overflow(attend):
    q, k, v = draw(0)
    got = attend(q * 1e3, k * 1e3, v, None, PLACES, jnp.ones((B, T), jnp.int32))
    assert np.isfinite(np.asarray(got)).all()
    best = np.einsum("bnth,bnsh->bnts", q, k).argmax(-1)
    np.testing.assert_allclose(
        np.asarray(got), np.take_along_axis(v, best[..., None], 2), atol=ONE_HOT
    )


def test_probabilities_are_what_attention_multiplies():
    q, k, v = draw(1)
    ones = jnp.ones((B, T), jnp.int32)
    maps = np.asarray(probabilities(q, k, Alibi(N).bias, PLACES, ones))
    np.testing.assert_allclose(maps.sum(-1), 1.0, atol=FUNCTION)
    product = np.einsum("bnts,bnsh->bnth", maps, v)
    got = np.asarray(dense(q, k, v, Alibi(N).bias, PLACES, ones))
    np.testing.assert_allclose(got, product, atol=FUNCTION)


@each
def test_the_same_call_gives_the_same_bits(attend):
    q, k, v = draw(2)
    ones = jnp.ones((B, T), jnp.int32)
    a, b = (np.asarray(attend(q, k, v, Alibi(N).bias, PLACES, ones)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("attend", [dense, blockwise])
def test_shapes_are_checked_in_these_tests(attend):
    q, k, v = draw(3)
    with pytest.raises(TypeCheckError):
        attend(q, k[:1], v, None, PLACES, jnp.ones((B, T), jnp.int32))
    with pytest.raises(TypeCheckError):
        attend(q, k, v, None, PLACES, jnp.ones((B, T + 1), jnp.int32))
