"""What a Bias may be made of: the operations of kernels, arrays that heads share, no arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Bias, Encoder, EncoderConfig
from jaxbert.errors import InputError
from jaxbert.model.attention import dense
from jaxbert.model.attention.dense import (
    attention_scores,
    bias_table,
    unnormalized_weights,
    weighted_mean,
)
from jaxbert.model.position import Position, Shared
from tests.model.test_joints import IMPLEMENTATIONS, TILED, N, T, draw, results_and_gradients, row
from tests.tolerances import ENCODER, FUNCTION, close, largest


class Operations(Bias):
    """A sum of all functions that kernels have and that ALiBi and T5 do not need."""

    def __init__(self, scale):
        self.scale = nnx.Param(scale)

    def terms(self, distance):
        x = self.scale[...] * distance
        yield from (jnp.log1p(x), jnp.cos(x), jnp.sin(x), jax.nn.softplus(x), jax.nn.relu(1 - x))
        yield from (jnp.logaddexp(x, 1.0), jnp.floor(x), jnp.ceil(x), x % 3.0, (1 + x) ** 0.5)
        yield from (jnp.arctan2(x, 1.0), jnp.tan(x / (1 + x)), jax.nn.silu(x))
        yield jnp.where(jnp.isfinite(x) ^ (distance > 5), 0.0, 1.0)
        yield jax.lax.erf_inv(x / (2 + x))

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return sum(self.terms(distance), start=jnp.zeros_like(distance)) / -8.0


OPERATIONS = Operations(jnp.asarray([0.37, 0.23, 0.0625], jnp.float32))


@pytest.mark.parametrize("name", ["tpu", "gpu"])
def test_kernels_have_these_operations(name):
    qkv, segments = draw(6)
    arguments = *qkv, OPERATIONS, row(T), segments
    got, expected = (jax.jit(each)(*arguments) for each in (IMPLEMENTATIONS[name], dense))
    close(got, expected, FUNCTION)


class Summed(Bias):
    """A sum over an axis, for which a kernel has no room."""

    def __init__(self, scales):
        self.scales = scales

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return -(self.scales[:, None, None] * distance[None]).sum(0)


def test_a_kernel_says_what_to_do_about_a_sum_over_an_axis():
    qkv, segments = draw()
    bias = Summed(jnp.ones((N, 2), jnp.float32))
    with pytest.raises(
        NotImplementedError, match=r"Summed uses reduce_sum, .*define arithmetic\(\)"
    ):
        IMPLEMENTATIONS["tpu"](*qkv, bias, row(T), segments)


class Fire(Bias):
    """sum_c v[c] relu(w[c] x + b[c]) of x = log(1 + |t - s|): arXiv:2310.04418, one hidden layer.

    All heads share w and b, and each has its own v.
    """

    def __init__(self, w, b, v):
        self.w, self.b, self.v = w, b, v

    def __call__(self, pos_q, pos_k):
        x = jnp.log1p(jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32))
        hidden = (
            v * jax.nn.relu(w * x + b) for w, b, v in zip(self.w, self.b, self.v, strict=True)
        )
        return sum(hidden, start=jnp.zeros_like(x))

    def arithmetic(self):
        return Fire(*(nnx.data(jnp.unstack(x[...], axis=-1)) for x in (self.w, self.b, self.v)))


def fire():
    w, b = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    v = np.random.default_rng(1).normal(size=(N, 5)).astype(np.float32)
    return Fire(Shared(jnp.asarray(w)), Shared(jnp.asarray(b)), nnx.Param(jnp.asarray(v)))


class Scheme(Position):
    def __init__(self, bias):
        self.bias = bias


def test_what_heads_share_is_given_to_each_of_them():
    bias, distance = fire(), np.abs(np.arange(T)[:, None] - np.arange(T)[None, :])
    w, b, v = (np.asarray(x[...], np.float64) for x in (bias.w, bias.b, bias.v))
    hidden = np.maximum(w[:, None, None] * np.log1p(distance) + b[:, None, None], 0.0)
    close(bias_table(bias, row(T))[0], np.einsum("nc,cts->nts", v, hidden), FUNCTION)


@functools.cache
def expected_shared():
    qkv, segments = draw(7)
    return results_and_gradients(dense, qkv, fire(), segments)


def test_the_gradient_of_what_heads_share_is_the_sum_of_theirs():
    """Against a bias in which each head has a w and b of its own, all of them equal."""
    qkv, segments = draw(7)
    alone, bias = expected_shared(), fire()
    bias.w, bias.b = (nnx.Param(jnp.tile(x[...][None], (N, 1))) for x in (bias.w, bias.b))
    apart = results_and_gradients(dense, qkv, bias, segments)
    for a, b in zip(alone, apart, strict=True):
        b = b if a.shape == b.shape else b.sum(0)
        assert largest(b) > 0.1
        close(a, b, ENCODER)


@pytest.mark.parametrize("name", TILED)
def test_what_heads_share_and_its_gradients_are_those_of_dense(name):
    qkv, segments = draw(7)
    got = results_and_gradients(IMPLEMENTATIONS[name], qkv, fire(), segments)
    for a, b in zip(got, expected_shared(), strict=True):
        close(a, b, ENCODER)


def test_an_encoder_learns_what_its_heads_share_and_refuses_another_number_of_heads():
    config = EncoderConfig.bert(
        vocab_size=31, hidden_size=15, num_layers=2, num_heads=N, intermediate_size=13
    )
    model = Encoder(config, rngs=nnx.Rngs(0), position=Scheme(fire()))
    assert model.weights()["position.bias.w"].shape == (5,)
    ids = np.random.default_rng(1).integers(0, 31, (2, 11))
    gradient = jax.grad(lambda model: jnp.sin(9 * model(ids)).sum())(model)
    assert largest(gradient.position.bias.w[...]) > 0
    bias = fire()
    bias.v = nnx.Param(bias.v[...][:1])
    with pytest.raises(InputError, match=r"\(1, 5\); its first axis must be the 3 heads"):
        Encoder(config, rngs=nnx.Rngs(0), position=Scheme(bias))


@pytest.mark.parametrize("name", ["dense", "blockwise"])
def test_a_bias_may_have_no_arrays_at_all(name):
    qkv, segments = draw(8)
    arguments = *qkv, Plain(), row(T), segments
    capped = jnp.tanh(attention_scores(*qkv[:2], None, row(T)))
    weights = unnormalized_weights(capped, segments)
    close(jax.jit(IMPLEMENTATIONS[name])(*arguments), weighted_mean(weights, qkv[2]), FUNCTION)
    assert bias_table(Plain(), row(7)).shape == (1, 1, 7, 7)


class Plain(Bias):
    """Scores within (-1, 1), and a term that nobody adds."""

    def __call__(self, pos_q, pos_k):
        return jnp.zeros((len(pos_q), len(pos_k)), jnp.float32)

    def score(self, scores, pos_q, pos_k):
        return jnp.tanh(scores)
