"""What a variant of attention may hook into: each joint against its formula."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Bias, EncoderConfig
from jaxbert.model.attention import Blockwise, attend, dense, folded
from jaxbert.model.attention.dense import (
    LOWEST,
    NO_KEYS,
    attention_mask,
    attention_scores,
)
from jaxbert.model.attention.gpu import Gpu
from jaxbert.model.attention.tpu import Tpu
from jaxbert.model.position import AlibiBias, Position
from jaxbert.model.position_schemes import BucketBias, Rope, Sum, SumBias
from tests.models import make
from tests.tolerances import ENCODER, FUNCTION, VISIBLE, close, largest, off

B, N, T, WIDTH, EVEN = 2, 3, 37, 5, 6


class XPos(Rope):
    """arXiv:2212.10554: queries grow by the factors by which keys shrink."""

    def grow(self, qk, exponent):
        half = qk.shape[-1] // 2
        zeta = (jnp.arange(half, dtype=jnp.float32) / half + 0.4) / 1.4
        factor = zeta[None, None, None, :] ** exponent[:, None, :, None]
        return qk * jnp.concatenate([factor, factor], axis=-1)

    def rotate_query(self, q, pos):
        return self.grow(self.rotate(q, pos), pos.astype(jnp.float32) / 16)

    def rotate_key(self, k, pos):
        return self.grow(self.rotate(k, pos), -pos.astype(jnp.float32) / 16)


def test_a_scheme_may_rotate_queries_otherwise_than_keys():
    """The score of xPos is that of RoPE, each pair of features times zeta^((t - s) / 16)."""
    t, half = 7, EVEN // 2
    q, k = np.random.default_rng(0).normal(size=(2, t, EVEN)).astype(np.float32)
    pos, scheme = jnp.arange(t, dtype=jnp.int32)[None], XPos()
    rotated = scheme.rotate_query(jnp.asarray(q)[None, None], pos)[0, 0]
    got = rotated @ scheme.rotate_key(jnp.asarray(k)[None, None], pos)[0, 0].T
    offset = np.arange(t)[:, None, None] - np.arange(t)[None, :, None]
    angle = offset * 1e4 ** (-np.arange(half) / half)
    zeta = (np.arange(half) / half + 0.4) / 1.4
    q, k = (x[:, :half] + 1j * x[:, half:] for x in (q, k))
    pairs = q[:, None] * np.conj(k)[None, :] * np.exp(1j * angle)
    close(got, (pairs.real * zeta ** (offset / 16)).sum(-1), FUNCTION)


def test_an_encoder_and_a_sum_tell_queries_from_keys():
    config = EncoderConfig.bert(
        vocab_size=31, hidden_size=18, num_layers=2, num_heads=3, intermediate_size=13
    )
    ids = np.random.default_rng(1).integers(0, 31, (2, 11))

    def states(scheme):
        model = make(config)
        model.position = scheme
        return np.asarray(model(ids))

    alone = states(XPos())
    assert off(alone, states(Rope())) > VISIBLE
    np.testing.assert_array_equal(alone, states(Sum(Position(), XPos())))
    np.testing.assert_array_equal(alone, states(Sum(XPos(), Position())))


def row(length):
    return jnp.arange(length, dtype=jnp.int32)[None]


# Tiles so small that each text has several; the queries and keys of none are of equal number.
IMPLEMENTATIONS = {
    "dense": dense,
    "folded": folded,
    "auto": attend,
    "blockwise": Blockwise(queries=16, keys=8),
    "tpu": Tpu(queries=8, keys=16, interpret=True),
    "gpu": Gpu(queries=16, keys=32, interpret=True),
}
TILED = {name: each for name, each in IMPLEMENTATIONS.items() if name not in ("dense", "auto")}


def draw(seed=0):
    """Queries, keys and values, and segments: two texts and padding, then one text."""
    random = np.random.default_rng(seed)
    index = np.arange(T)
    first = np.where(index < 11, 1, np.where(index < T - 7, 2, 0))
    q, k, v = jnp.asarray(random.normal(size=(3, B, N, T, WIDTH)).astype(np.float32))
    return (q, k, v), jnp.asarray(np.stack([first, np.ones(T)]).astype(np.int32))


def learned_slopes():
    return Slopes(jnp.asarray([0.5, 0.25, 0.0625], jnp.float32))


class Slopes(AlibiBias):
    """ALiBi whose slopes are learned."""

    def __init__(self, slopes):
        self.slopes = nnx.Param(slopes)


def results_and_gradients(attention, qkv, bias, segments):
    """The context and the log sum exp, and the gradients of a function of both."""

    def scalar(qkv, bias):
        context, lse = attention.with_lse(*qkv, bias, row(T), segments)
        return jnp.sin(context).sum() + jnp.sin(3 * lse).sum(), (context, lse)

    gradients, results = jax.jit(jax.grad(scalar, argnums=(0, 1), has_aux=True))(qkv, bias)
    return [*results, *jax.tree.leaves(gradients)]


@functools.cache
def expected_with_lse():
    qkv, segments = draw()
    return results_and_gradients(dense, qkv, learned_slopes(), segments)


@pytest.mark.parametrize("name", ["auto", *TILED])
def test_log_sum_exp_and_its_gradients_are_those_of_dense(name):
    qkv, segments = draw()
    got = results_and_gradients(IMPLEMENTATIONS[name], qkv, learned_slopes(), segments)
    for a, b in zip(got, expected_with_lse(), strict=True):
        assert largest(b) > 1
        close(a, b, ENCODER)


def test_the_log_sum_exp_of_dense_is_its_formula():
    (q, k, _), segments = draw()
    slopes = np.asarray(learned_slopes().slopes[...], np.float64)
    distance = np.abs(np.arange(T)[:, None] - np.arange(T)[None, :])
    scores = np.einsum("bnth,bnsh->bnts", *(np.asarray(x, np.float64) for x in (q, k)))
    scores = scores / WIDTH**0.5 - slopes[:, None, None] * distance
    seen = (segments[:, None, :, None] == segments[:, None, None, :]) & (segments != 0)[
        :, None, None, :
    ]
    total = np.where(seen, np.exp(scores), 0.0).sum(-1)
    lse = np.asarray(expected_with_lse()[1])
    some = total > 0
    close(lse[some], np.log(total[some]), FUNCTION)
    np.testing.assert_array_equal(lse[~some], NO_KEYS)
    assert np.exp(NO_KEYS) == 0
    assert not some.all()


class Sink(nnx.Module):
    """A learned score beside those of the keys, with no value: o Z / (Z + exp(sink))."""

    def __init__(self, attention):
        self.sink, self.attention = nnx.Param(jnp.asarray([-1.0, 0.0, 2.0])), attention

    def __call__(self, *arguments):
        context, lse = self.attention.with_lse(*arguments)
        share = jax.nn.sigmoid(lse - self.sink[...][None, :, None])
        return (context * share[..., None]).astype(context.dtype)


@pytest.mark.parametrize("name", ["auto", "blockwise"])
def test_a_sink_is_a_few_lines_around_any_attention(name):
    """The same as a softmax over one more key, whose value is zero and whose score the sink."""
    qkv, segments = draw()

    def loss(sink, qkv):
        return jnp.sin(sink(*qkv, learned_slopes(), row(T), segments)).sum()

    def expected(sink, qkv):
        scores = attention_scores(*qkv[:2], learned_slopes(), row(T))
        scores = jnp.where(attention_mask(segments), scores, -jnp.inf)
        more = jnp.broadcast_to(sink.sink[...][None, :, None, None], (B, N, T, 1))
        shares = jax.nn.softmax(jnp.concatenate([scores, more], axis=-1), axis=-1)
        return jnp.sin(jnp.einsum("bnts,bnsh->bnth", shares[..., :-1], qkv[2])).sum()

    sink = Sink(IMPLEMENTATIONS[name])
    ours, theirs = (
        jax.jit(jax.value_and_grad(f, argnums=(0, 1)))(sink, qkv) for f in (loss, expected)
    )
    for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        assert largest(b) > 0.1
        close(a, b, ENCODER)


class Side(Bias):
    """Keys at most `most` away if near, the others if not; the rest have no weight."""

    def __init__(self, near):
        self.most, self.near = jnp.asarray([3.0, 7.0, 12.0]), near

    def __call__(self, pos_q, pos_k):
        near = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32) <= self.most
        return jnp.where(near == self.near, 0.0, LOWEST)


@pytest.mark.parametrize("name", ["dense", "blockwise"])
def test_branches_merge_to_one_attention(name):
    """Near keys and far keys apart; some queries have no far keys, and padding has none at all."""
    qkv, segments = draw()

    def merged(qkv):
        near, far = (
            IMPLEMENTATIONS[name].with_lse(*qkv, Side(side), row(T), segments)
            for side in (True, False)
        )
        both = jnp.logaddexp(near[1], far[1])
        return sum(jnp.exp(lse - both)[..., None] * context for context, lse in (near, far))

    def whole(qkv):
        return dense(*qkv, None, row(T), segments)

    def gradient(attention):
        return jax.value_and_grad(lambda qkv: jnp.sin(attention(qkv)).sum())

    got, expected = (jax.jit(gradient(attention))(qkv) for attention in (merged, whole))
    for a, b in zip(*map(jax.tree.leaves, (got, expected)), strict=True):
        assert largest(b) > 0.1
        close(a, b, ENCODER)


@pytest.mark.parametrize("name", ["dense", "blockwise"])
def test_the_gradient_of_a_log_sum_exp_without_keys_is_not_looked_at(name):
    """1 / (1 + exp(-lse)), written so, has NaN as its derivative where there are no keys."""
    qkv, segments = draw()

    def loss(qkv):
        context, lse = IMPLEMENTATIONS[name].with_lse(*qkv, None, row(T), segments)
        return jnp.sin(context / (1 + jnp.exp(-lse))[..., None]).sum()

    for leaf in jax.jit(jax.grad(loss))(qkv):
        assert np.isfinite(leaf).all()
        assert largest(leaf) > 0.1


class SoftCap(Bias):
    """cap tanh(score / cap), with a learned cap for each head (Gemma 2 has one of 50)."""

    def __init__(self, caps):
        self.caps = nnx.Param(caps)

    def score(self, scores, pos_q, pos_k):
        return self.caps[...] * jnp.tanh(scores / self.caps[...])


class LogLength(Bias):
    """ALiBi added to scores that are multiplied by the logarithm of the query's position."""

    def __init__(self, slopes, scale):
        self.slopes, self.scale = nnx.Param(slopes), nnx.Param(scale)

    def score(self, scores, pos_q, pos_k):
        grown = jnp.log(2.0 + pos_q.astype(jnp.float32))[:, None]
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return self.scale[...] * grown * scores - self.slopes[...] * distance


def soft_cap():
    return SoftCap(jnp.asarray([0.5, 1.0, 3.0], jnp.float32))


SCORES = {
    "soft cap": soft_cap(),
    "log length": LogLength(jnp.asarray([0.5, 0.25, 0.0625]), jnp.asarray([0.25, 0.5, 1.0])),
    "cap of ALiBi": SumBias(learned_slopes(), soft_cap()),
    "cap and ALiBi": SumBias(soft_cap(), learned_slopes()),
}


@functools.cache
def expected_scored(case):
    qkv, segments = draw(1)
    return results_and_gradients(dense, qkv, SCORES[case], segments)


@pytest.mark.parametrize("name", TILED)
def test_a_function_of_the_score_and_its_gradients_are_those_of_dense(name):
    cases = list(SCORES) if name == "blockwise" else ["log length"]
    for case in cases:
        qkv, segments = draw(1)
        got = results_and_gradients(IMPLEMENTATIONS[name], qkv, SCORES[case], segments)
        for a, b in zip(got, expected_scored(case), strict=True):
            assert largest(b) > 0.1
            close(a, b, ENCODER)


@pytest.mark.parametrize("shared", [True, False])
def test_dense_gives_each_row_and_head_its_own_score(shared):
    (q, k, _), _ = draw(2)
    positions = row(T) if shared else jnp.concatenate([row(T), 3 * row(T)])
    slopes, scale = (
        np.asarray(x[...]) for x in (SCORES["log length"].slopes, SCORES["log length"].scale)
    )
    pos = np.broadcast_to(np.asarray(positions), (B, T))
    distance = np.abs(pos[:, :, None] - pos[:, None, :])[:, None]
    products = np.einsum("bnth,bnsh->bnts", *(np.asarray(x, np.float64) for x in (q, k)))
    grown = np.log(2.0 + pos)[:, None, :, None] * scale[:, None, None]
    expected = products / WIDTH**0.5 * grown - slopes[:, None, None] * distance
    close(attention_scores(q, k, SCORES["log length"], positions), expected, FUNCTION)


def test_an_order_of_scores_is_kept_in_a_sum():
    (q, k, _), _ = draw(3)
    before, after = (
        np.asarray(attention_scores(q, k, SCORES[case], row(T)))
        for case in ("cap of ALiBi", "cap and ALiBi")
    )
    assert np.abs(before[:, 0]).max() <= 0.5
    assert after[:, 0].min() < -10
    assert not SCORES["cap of ALiBi"].additive
    assert SumBias(learned_slopes(), learned_slopes()).additive


class HalfSum(SumBias):
    """Half of a sum, by its own term."""

    def __call__(self, pos_q, pos_k):
        return super().__call__(pos_q, pos_k) / 2


def test_a_subclass_of_a_sum_may_change_the_term():
    (q, k, _), _ = draw(3)
    half = HalfSum(learned_slopes(), learned_slopes())
    got, expected = (attention_scores(q, k, bias, row(T)) for bias in (half, learned_slopes()))
    close(got, expected, FUNCTION)


class SteepCap(AlibiBias):
    """ALiBi with a bound, as its terms have, and a score for which that is none."""

    def score(self, scores, pos_q, pos_k):
        return jnp.tanh(scores + self(pos_q, pos_k))


def test_a_score_of_its_own_turns_the_skipping_of_tiles_off():
    qkv, _ = draw(4)
    bias = SteepCap(jnp.full((N,), 9.0, jnp.float32))
    arguments = *qkv, bias, row(T), jnp.ones((B, T), jnp.int32)
    got, expected = (jax.jit(attention)(*arguments) for attention in (Blockwise(8, 8), dense))
    close(got, expected, FUNCTION)
    plain = *qkv, AlibiBias(bias.slopes), *arguments[4:]
    assert off(jax.jit(dense)(*plain), expected) > VISIBLE


class CappedBuckets(BucketBias):
    """T5's bias with a cap; its arithmetic() is inherited and has none."""

    def score(self, scores, pos_q, pos_k):
        return jnp.tanh(scores + self(pos_q, pos_k))


def test_an_arithmetic_that_loses_the_score_is_refused():
    qkv, segments = draw()
    bias = CappedBuckets(jnp.zeros((N, 8), jnp.float32), 11)
    for one in (bias, SumBias(soft_cap(), bias)):
        with pytest.raises(NotImplementedError, match="CappedBuckets has a score of its own, and"):
            IMPLEMENTATIONS["tpu"](*qkv, one, row(T), segments)
