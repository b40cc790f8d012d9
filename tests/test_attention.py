"""Dense attention against the reference's, on drawn masks, segments and biases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from jaxbert import reference
from jaxbert.attention import attend, dense, probabilities
from jaxbert.position import Alibi
from tests.tolerances import FUNCTION

B, N, T, H = 2, 3, 7, 5
PLACES = jnp.arange(T, dtype=jnp.int32)[None]
jitted = jax.jit(attend)


def draw(seed):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(3, B, N, T, H)).astype(np.float32))


@given(seed=st.integers(0, 2**32 - 1), masked=st.integers(0, 2 ** (B * T) - 1))
def test_agrees_with_the_reference_under_any_mask(seed, masked):
    q, k, v = draw(seed)
    mask = np.array([(masked >> i) & 1 for i in range(B * T)], np.int32).reshape(B, T)
    got = jitted(q, k, v, Alibi(N).bias, PLACES, mask)
    expected = reference.attention(q, k, v, mask.astype(bool), reference.alibi(N, T))
    valid = np.broadcast_to((mask == 1)[:, None, :], (B, N, T))
    np.testing.assert_allclose(np.asarray(got)[valid], expected[valid], atol=FUNCTION)
    np.testing.assert_array_equal(np.asarray(got)[~valid], 0.0)


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_segments_are_attended_one_by_one(seed, data):
    q, k, v = draw(seed)
    segments = np.array(data.draw(st.lists(st.integers(0, 3), min_size=B * T, max_size=B * T)))
    segments = segments.reshape(B, T).astype(np.int32)
    got = np.asarray(jitted(q, k, v, Alibi(N).bias, PLACES, segments))
    for number in (1, 2, 3):
        mask = segments == number
        expected = reference.attention(q, k, v, mask, reference.alibi(N, T))
        valid = np.broadcast_to(mask[:, None, :], (B, N, T))
        np.testing.assert_allclose(got[valid], expected[valid], atol=FUNCTION)


def test_large_scores_do_not_overflow():
    q, k, v = draw(0)
    got = attend(q * 1e3, k * 1e3, v, None, PLACES, jnp.ones((B, T), jnp.int32))
    assert np.isfinite(np.asarray(got)).all()
    best = np.einsum("bnth,bnsh->bnts", q, k).argmax(-1)
    np.testing.assert_allclose(
        np.asarray(got), np.take_along_axis(v, best[..., None], 2), atol=1e-3
    )


def test_probabilities_are_what_attention_multiplies():
    q, k, v = draw(1)
    ones = jnp.ones((B, T), jnp.int32)
    maps = np.asarray(probabilities(q, k, Alibi(N).bias, PLACES, ones))
    np.testing.assert_allclose(maps.sum(-1), 1.0, atol=FUNCTION)
    product = np.einsum("bnts,bnsh->bnth", maps, v)
    got = np.asarray(dense(q, k, v, Alibi(N).bias, PLACES, ones))
    np.testing.assert_allclose(got, product, atol=FUNCTION)


def test_the_same_call_gives_the_same_bits():
    q, k, v = draw(2)
    ones = jnp.ones((B, T), jnp.int32)
    a, b = (np.asarray(jitted(q, k, v, Alibi(N).bias, PLACES, ones)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_shapes_are_checked_in_these_tests():
    q, k, v = draw(3)
    with pytest.raises(TypeCheckError):
        dense(q, k[:1], v, None, PLACES, jnp.ones((B, T), jnp.int32))
    with pytest.raises(TypeCheckError):
        dense(q, k, v, None, PLACES, jnp.ones((B, T + 1), jnp.int32))
