"""Each pooling mode against its formula in loops, under drawn masks."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert import mean_pool
from jaxbert.checkpoint.sentence_transformers.dense import ACTIVATIONS
from jaxbert.checkpoint.sentence_transformers.pooling import MODES
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.model import head as pooling
from jaxbert.model.head import POOLINGS, Dense, Normalize, Pooling, PoolingHead, normalize, pool
from tests.tolerances import FUNCTION, close

B, T, D = 3, 7, 5
X = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)


def by_hand(mode, x, mask):
    """One row, from the definition; zeros where no token counts."""
    kept = [t for t in range(len(mask)) if mask[t]]
    if not kept:
        return np.zeros(x.shape[1])
    x = x.astype(float)
    total = sum(x[t] for t in kept)
    return {
        "cls": lambda: x[kept[0]],
        "lasttoken": lambda: x[kept[-1]],
        "max": lambda: np.max([x[t] for t in kept], axis=0),
        "mean": lambda: total / len(kept),
        "mean_sqrt_len_tokens": lambda: total / np.sqrt(len(kept)),
        "weightedmean": lambda: sum(x[t] * (t + 1) for t in kept) / sum(t + 1 for t in kept),
    }[mode]()


@pytest.mark.parametrize("mode", POOLINGS)
@given(bits=st.integers(0, 2 ** (B * T) - 1))
def test_modes(mode, bits):
    mask = np.array([(bits >> i) & 1 for i in range(B * T)], bool).reshape(B, T)
    got = np.asarray(POOLINGS[mode](jnp.asarray(X), jnp.asarray(mask)))
    expected = np.stack([by_hand(mode, x, m) for x, m in zip(X, mask, strict=True)])
    close(got, expected, FUNCTION)


def test_what_is_masked_does_not_count_even_if_it_is_nan():
    mask = np.arange(T)[None, :] < np.array([[7], [3], [1]])
    broken = np.where(mask[..., None], X, np.nan).astype(np.float32)
    for mode in POOLINGS:
        a, b = (np.asarray(POOLINGS[mode](jnp.asarray(x), jnp.asarray(mask))) for x in (X, broken))
        np.testing.assert_array_equal(a, b)


def test_several_modes_stand_one_after_the_other():
    mask = jnp.ones((B, T), bool)
    got = np.asarray(pool(jnp.asarray(X), mask, ("max", "cls")))
    assert got.shape == (B, 2 * D)
    np.testing.assert_array_equal(got[:, :D], X.max(1))
    np.testing.assert_array_equal(got[:, D:], X[:, 0])


def test_sums_are_float32_in_bfloat16():
    x = jnp.ones((1, 4001, 2), jnp.bfloat16)  # a bfloat16 sum would stop at 256
    got = mean_pool(x, np.ones((1, 4001)))
    assert got.dtype == jnp.float32
    close(got, 1.0, FUNCTION)


def test_normalize_gives_length_one_and_leaves_zero():
    y = np.asarray(normalize(jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]])))
    close(y[:2], [[0.6, 0.8], [0.0, 0.0]], FUNCTION)
    assert np.isfinite(y).all()


def test_what_a_folder_may_name_can_be_computed():
    assert set(MODES) == set(POOLINGS)
    assert set(ACTIVATIONS) == set(pooling.ACTIVATIONS)


@pytest.mark.parametrize("activation", ["Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid"])
def test_head_is_pooling_then_dense_then_unit_length(activation):
    from scipy.special import erf

    formulas = {
        "Tanh": np.tanh,
        "Identity": lambda x: x,
        "ReLU": lambda x: np.maximum(x, 0),
        "GELU": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        "SiLU": lambda x: x / (1 + np.exp(-x)),
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    }
    random = np.random.default_rng(1)
    weight = random.normal(size=(3, 2 * D)).astype(np.float32)
    bias = random.normal(size=3).astype(np.float32)
    stack = Stack(Pooling(("mean", "max")), (Dense(weight, bias, activation), Normalize()))
    got = np.asarray(
        PoolingHead(stack.pooling, stack.after)(jnp.asarray(X), jnp.ones((B, T), bool))
    )
    y = formulas[activation](
        np.concatenate([X.mean(1), X.max(1)], 1).astype(float) @ weight.T + bias
    )
    close(got, y / np.linalg.norm(y, axis=1, keepdims=True), FUNCTION)
    assert stack.width(D) == 3


@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.float32])
def test_mean_pool_takes_numpy_and_any_mask_dtype(dtype):
    got = mean_pool(X, np.ones((B, T), dtype))
    close(got, X.mean(1), FUNCTION)
