"""Small parts against the reference, and the traps that other libraries' defaults are."""

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.errors import ConfigError, InputError
from jaxbert.model import reference
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.layers import Glu, LayerNorm, Mlp, Projection, layer_norm, lookup
from jaxbert.model.qk_norm import QueryKeyNorm, SecondResidual
from tests.models import randomised
from tests.tolerances import FUNCTION, LARGE_MEAN, close

SIZES = {"d": 15, "n": 3, "h": 5, "f": 13, "g": 2}
X = np.random.default_rng(0).normal(size=(2, 7, 15)).astype(np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("gelu", "gelu"), ("gelu_tanh", "gelu_new"), ("relu", "relu"), ("silu", "silu")],
)
def test_activations(ours, theirs):
    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    got = np.asarray(ACTIVATIONS[ours](jnp.asarray(x)))
    # Pointwise: an activation is about x at most, and its rounding is a share of x.
    close(got, reference.ACTIVATIONS[theirs](x.astype(float)), FUNCTION, np.abs(x))


@pytest.mark.parametrize("case", ["an outlier", "a large mean"])
def test_layer_norm_is_exact_beside(case):
    x = X.copy()
    if case == "an outlier":
        x[..., 4] = 3e3  # one feature a thousand times larger, as trained encoders have them
    else:
        x += 256.0  # E[x^2] - E[x]^2 in float32 would keep two digits here
    scale, shift = np.random.default_rng(1).normal(size=(2, 15)).astype(np.float32)
    wide = [jnp.asarray(w)[None, None] for w in (scale, shift)]
    got = np.asarray(layer_norm(jnp.asarray(x), *wide, 1e-12, (-1,)))
    expected = reference.layer_norm(x.astype(float), scale, shift, 1e-12)
    close(got, expected, LARGE_MEAN)


def test_layer_norm_uses_its_eps():
    module = LayerNorm(SIZES, eps=0.5)
    got = np.asarray(module(jnp.asarray(X)))
    expected = reference.layer_norm(X.astype(float), np.ones(15), np.zeros(15), 0.5)
    close(got, expected, FUNCTION)


def test_heads_norm_takes_all_heads_together():
    module = randomised(QueryKeyNorm(SIZES, 1e-12))
    q = np.random.default_rng(2).normal(size=(2, 3, 7, 5)).astype(np.float32)
    flat = q.transpose(0, 2, 1, 3).reshape(2, 7, 15).astype(float)
    scale, shift = (np.asarray(w[...]).reshape(15) for w in (module.scale, module.shift))
    expected = reference.layer_norm(flat, scale, shift, 1e-12)
    got = np.asarray(module(jnp.asarray(q))).transpose(0, 2, 1, 3).reshape(2, 7, 15)
    close(got, expected, FUNCTION)


def test_rejoin_adds_the_input_again():
    x, a = jnp.asarray(X), jnp.asarray(X[::-1] * 2)
    module = randomised(SecondResidual(SIZES, 1e-12))
    np.testing.assert_array_equal(np.asarray(module(x, a)), np.asarray(module.norm(x + a)))


def test_glu_gates_with_its_first_half():
    module = randomised(Glu(SIZES, jax.nn.relu, rngs=nnx.Rngs(0), std=1.0))
    up, down, bias = (
        np.asarray(w[...], float) for w in (module.up.weight, module.down.weight, module.down.bias)
    )
    gate, value = (np.einsum("btd,df->btf", X, up[:, i]) for i in (0, 1))
    expected = np.einsum("btf,fd->btd", np.maximum(gate, 0) * value, down) + bias
    close(module(jnp.asarray(X)), expected, FUNCTION)
    assert module.up.bias is None


@pytest.mark.parametrize("use_bias", [True, False])
def test_mlp(use_bias):
    module = Mlp(SIZES, jax.nn.relu, rngs=nnx.Rngs(0), std=1.0, use_bias=use_bias)
    module = randomised(module)
    inner = np.einsum("btd,df->btf", X, np.asarray(module.up.weight[...], float))
    inner = inner + (np.asarray(module.up.bias[...]) if use_bias else 0.0)
    expected = np.einsum("btf,fd->btd", np.maximum(inner, 0), np.asarray(module.down.weight[...]))
    expected = expected + np.asarray(module.down.bias[...])
    close(module(jnp.asarray(X)), expected, FUNCTION)


def test_projection_accumulates_in_float32():
    module = Projection("btd,dnh->btnh", SIZES, rngs=nnx.Rngs(0), std=1.0)
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), module)
    x = jnp.asarray(X, jnp.bfloat16)
    got = half(x)
    assert got.dtype == jnp.float32
    expected = np.einsum("btd,dnh->btnh", np.asarray(x, float), np.asarray(half.weight[...], float))
    close(got, expected, FUNCTION)


def test_a_projection_that_would_transpose_is_refused():
    with pytest.raises(ConfigError, match="btd,dnh->bnth must have x's own axes, then those of W"):
        Projection("btd,dnh->bnth", SIZES, rngs=nnx.Rngs(0), std=1.0)


def test_heads_are_summed_in_the_order_of_the_weight():
    """In another order XLA would copy the weight in every call."""
    module = Projection("btnh,nhd->btd", SIZES, rngs=nnx.Rngs(0), std=1.0)
    x = jnp.ones((2, 3, *module.weight.shape[:2]), jnp.float32)
    text = jax.jit(lambda module, x: module(x)).lower(module, x).as_text()
    assert "contracting_dims = [2, 3] x [0, 1]" in text


@pytest.mark.parametrize("axes", [2, 4])
def test_states_of_other_axes_than_the_spec_names_are_refused(axes):
    module = Projection("btd,dnh->btnh", SIZES, rngs=nnx.Rngs(0), std=1.0)
    with pytest.raises(InputError, match=f"takes x of 3 axes, and this one has {axes}"):
        module(jnp.ones((SIZES["d"],) * axes, jnp.float32))


def test_lookup_answers_a_wrong_index_with_nan():
    table = jnp.asarray(X[0])
    rows = np.asarray(lookup(table, jnp.asarray([[0, 6, 7, -1]], jnp.int32)))[0]
    np.testing.assert_array_equal(rows[:2], X[0][[0, 6]])
    assert np.isnan(rows[2:]).all()
