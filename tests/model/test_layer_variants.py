"""Encoders of other shapes without a flag in a forward pass: T5's layers, ModernBERT's windows."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Bias, Encoder, EncoderConfig, Position
from jaxbert.errors import CheckpointError, InputError
from jaxbert.model import reference
from jaxbert.model.architectures import components_of
from jaxbert.model.attention import Blockwise, dense
from jaxbert.model.attention.dense import (
    attention_scores,
    softmax_denominator,
    unnormalized_weights,
)
from jaxbert.model.layer_variants import LayerScheme, PreNormLayer, RmsNorm
from jaxbert.model.layers import Projection, lookup
from jaxbert.model.position import Learned
from jaxbert.model.position_schemes import Rope, T5Bias
from tests.models import arrays, randomised
from tests.tolerances import ENCODER, FUNCTION, VISIBLE, close, off

L, N, H, D, T = 2, 3, 5, 15, 11
EPS = 1e-6
CONFIG = EncoderConfig.bert(
    vocab_size=31,
    hidden_size=D,
    num_layers=L,
    num_heads=N,
    intermediate_size=13,
    position="none",
    layer_norm_eps=EPS,
)
SIZES = CONFIG.sizes


class WordEmbeddings(nnx.Module):
    """T5's embeddings: a table of words, and nothing else."""

    def __init__(self, config, components, *, rngs):
        self.word = nnx.Param(jnp.zeros((config.vocab_size, config.hidden_size), jnp.float32))

    def __call__(self, inputs, scheme):
        return scheme.embed(lookup(self.word[...], inputs.ids), inputs.positions)


class Relu(nnx.Module):
    """T5's first feed-forward: two products without biases."""

    def __init__(self, rngs):
        self.up = Projection("btd,df->btf", SIZES, rngs=rngs, std=1.0, use_bias=False)
        self.down = Projection("btf,fd->btd", SIZES, rngs=rngs, std=1.0, use_bias=False)

    def __call__(self, x):
        return self.down(jax.nn.relu(self.up(x)).astype(x.dtype)).astype(x.dtype)


class Unscaled(nnx.Module):
    """T5 does not divide by sqrt(h): queries are multiplied by it before attention does."""

    def __call__(self, q):
        return q * H**0.5


def t5(attention=None):
    components = components_of(CONFIG)._replace(
        position=partial(T5Bias, N, std=1.0, num_buckets=8, max_distance=7),
        projection=partial(Projection, sizes=SIZES, std=1.0, use_bias=False),
        norm=partial(RmsNorm, SIZES, EPS),
        query_norm=Unscaled,
        feed_forward=Relu,
        final_norm=partial(RmsNorm, SIZES, EPS),
    )

    def make():
        return Encoder(
            CONFIG,
            rngs=nnx.Rngs(0),
            attention=attention,
            components=components,
            embeddings=WordEmbeddings,
            layers=[PreNormLayer] * L,
        )

    return randomised(jax.eval_shape(make))


def rms_norm(x, scale):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * scale


def heads(x, weight):
    return np.einsum("btd,dnh->bnth", x, weight)


def bucket(offset, buckets=8, furthest=7):
    """T5's bucket of one offset, key minus query, written out case by case."""
    half = buckets // 2
    base, distance = (half, offset) if offset > 0 else (0, -offset)
    exact = half // 2
    if distance < exact:
        return base + distance
    far = exact + int(np.log(distance / exact) / np.log(furthest / exact) * (half - exact))
    return base + min(far, half - 1)


def t5_in_numpy(weights, ids, mask):
    """The states after the last layer, from the formulas of arXiv:1910.10683, section 2.1."""
    table = weights["position.bias.table"]
    buckets = np.array([[bucket(s - t) for s in range(T)] for t in range(T)])
    bias = table[:, buckets]
    x = weights["embeddings.word"][ids]
    for i in range(L):
        tensors = {k.removeprefix("layers."): w[i] for k, w in weights.items() if "layers." in k}
        y = rms_norm(x, tensors["attention_norm.scale"])
        q, k, v = (
            heads(y, tensors[f"attention.{name}.weight"]) for name in ("query", "key", "value")
        )
        context = reference.attention(q * H**0.5, k, v, mask != 0, bias)
        x = x + np.einsum("bnth,nhd->btd", context, tensors["attention.out.weight"])
        y = rms_norm(x, tensors["feed_forward_norm.scale"])
        inner = np.maximum(y @ tensors["feed_forward.up.weight"], 0)
        x = x + inner @ tensors["feed_forward.down.weight"]
    return rms_norm(x, weights["final_norm.scale"])


@pytest.mark.parametrize("attention", [None, Blockwise(queries=3, keys=5)])
def test_an_encoder_of_the_shape_of_t5(attention):
    model = t5(attention)
    ids, mask, _ = arrays(3, length=T)
    weights = {name: np.asarray(w, np.float64) for name, w in model.weights().items()}
    assert not any("bias" in name for name in weights if name.startswith("layers."))
    expected = t5_in_numpy(weights, ids, mask)
    got = np.asarray(model(ids, mask))
    valid = mask == 1
    close(got[valid], expected[valid], ENCODER)
    for probabilities in map(np.asarray, model.attentions(ids, mask)):
        close(
            probabilities.sum(-1)[np.broadcast_to(valid[:, None], (len(ids), N, T))], 1.0, FUNCTION
        )


class WindowBias(Bias):
    def __init__(self, widths):
        self.widths = widths

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)
        return jnp.where(distance <= self.widths, 0.0, -1e9)


class Window(Position):
    def __init__(self, width):
        self.bias = WindowBias(jnp.full((N,), width, jnp.float32))


def windows(widths):
    layers = [
        partial(PreNormLayer, attention=partial(LayerScheme, scheme=Window(width)))
        for width in widths
    ]
    return Encoder(CONFIG, rngs=nnx.Rngs(2), layers=layers)


def test_layers_may_have_position_schemes_of_their_own():
    model = windows([2, 99])
    ids = np.random.default_rng(0).integers(0, 31, (1, T))
    distance = np.abs(np.arange(T)[:, None] - np.arange(T)[None, :])
    near, far = (np.asarray(weights)[0, 0] > 0 for weights in model.attentions(ids))
    np.testing.assert_array_equal(near, distance <= 2)
    assert far.all()
    wide = windows([99, 99])
    assert off(np.asarray(model(ids)), np.asarray(wide(ids))) > VISIBLE
    plain = Encoder(CONFIG, rngs=nnx.Rngs(2), layers=[PreNormLayer] * L)
    np.testing.assert_array_equal(np.asarray(wide(ids)), np.asarray(plain(ids)))


def test_layers_that_cannot_be_stacked_are_refused():
    other = partial(LayerScheme, scheme=Window(2))
    layers = [PreNormLayer, partial(PreNormLayer, attention=other)]
    with pytest.raises(InputError, match="layer 1 is built otherwise than layer 0"):
        Encoder(CONFIG, rngs=nnx.Rngs(0), layers=layers)
    with pytest.raises(InputError, match="3 layers where the config says 2"):
        Encoder(CONFIG, rngs=nnx.Rngs(0), layers=[PreNormLayer] * 3)


class Capped(nnx.Module):
    """Scores that cannot leave (-cap, cap), with a learned cap for each head."""

    def __init__(self):
        self.cap = nnx.Param(jnp.asarray([0.5, 2.0, 1e4], jnp.float32))

    def __call__(self, q, k, v, bias, positions, segments):
        cap = self.cap[...][None, :, None, None]
        scores = cap * jnp.tanh(attention_scores(q, k, bias, positions) / cap)
        weights = unnormalized_weights(scores, segments)
        return jnp.einsum("bnts,bnsh->bnth", weights / softmax_denominator(weights), v)


def test_an_attention_may_have_weights_of_its_own_and_change_scores(tmp_path):
    wide = replace(CONFIG, initializer_range=1.0)
    plain, capped = (Encoder(wide, rngs=nnx.Rngs(0), attention=own) for own in (dense, Capped()))
    ids, mask, _ = arrays(3, length=T)
    valid = mask == 1
    assert off(np.asarray(capped(ids, mask))[valid], np.asarray(plain(ids, mask))[valid]) > VISIBLE
    capped.attention.cap.set_value(jnp.full((N,), 1e6, jnp.float32))
    close(np.asarray(capped(ids, mask))[valid], np.asarray(plain(ids, mask))[valid], ENCODER)
    capped = Encoder(wide, rngs=nnx.Rngs(0), attention=Capped())
    slope = jax.grad(lambda model: model(ids, mask)[0, 0, 0])(capped)
    assert np.abs(slope.attention.cap[...][:2]).min() > 0
    with pytest.raises(CheckpointError, match="attention is Capped"):
        capped.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_base_of_a_rotation_may_differ_from_layer_to_layer():
    def encoder(*bases):
        schemes = [Rope(jnp.asarray(base, jnp.float32)) for base in bases]
        layers = [
            partial(PreNormLayer, attention=partial(LayerScheme, scheme=scheme))
            for scheme in schemes
        ]
        return Encoder(even, rngs=nnx.Rngs(2), layers=layers)

    even = replace(CONFIG, hidden_size=18, initializer_range=1.0)
    ids = np.random.default_rng(0).integers(0, 31, (1, T))
    both = np.asarray(encoder(1e4, 1e4)(ids))
    assert off(np.asarray(encoder(1e4, 10.0)(ids)), both) > VISIBLE
    shared = Encoder(even, rngs=nnx.Rngs(2), position=Rope(), layers=[PreNormLayer] * L)
    close(both, np.asarray(shared(ids)), ENCODER)


class OneHead(Position):
    """A window of one head, where there are three."""

    def __init__(self):
        self.bias = WindowBias(jnp.full((1,), 2.0, jnp.float32))


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        (OneHead(), "first axis must be the 3 heads"),
        (Learned(19, D, rngs=nnx.Rngs(0), std=1.0), "Learned adds embeddings or has a limit"),
    ],
)
def test_a_scheme_that_a_layer_cannot_have_is_refused(scheme, words):
    layer = partial(PreNormLayer, attention=partial(LayerScheme, scheme=scheme))
    with pytest.raises(InputError, match=words):
        Encoder(CONFIG, rngs=nnx.Rngs(0), layers=[layer] * L)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"layers": [PreNormLayer] * L}, "layers are not what its config makes"),
        ({"embeddings": WordEmbeddings}, "embeddings are not what its config makes"),
        (
            {"components": components_of(CONFIG)._replace(norm=partial(RmsNorm, SIZES, EPS))},
            "embeddings are not what its config makes .*norm is RmsNorm",
        ),
        (
            {"components": components_of(CONFIG)._replace(query_norm=Unscaled)},
            "layers are not what its config makes .*query_norm is Unscaled",
        ),
        (
            {"components": components_of(CONFIG)._replace(final_norm=partial(RmsNorm, SIZES, EPS))},
            "final_norm are not what its config makes",
        ),
    ],
)
def test_what_a_config_cannot_say_is_not_saved(tmp_path, parts, words):
    with pytest.raises(CheckpointError, match=words):
        Encoder(CONFIG, rngs=nnx.Rngs(0), **parts).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
