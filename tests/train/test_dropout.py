"""Dropout makes an encoder of an encoder: where it acts, by which key, and for which layers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.extend.core import jaxprs_in_params

from jaxbert import Encoder
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.layer_variants import LayerScheme, PreNormLayer
from jaxbert.model.position import Alibi
from jaxbert.model.transformer import AttentionMetadata
from jaxbert.train.dropout import drop, dropout
from jaxbert.train.objectives import inputs_of, texts_of
from tests.models import CONFIGS, FAMILY_FOLDERS, make
from tests.tolerances import ENCODER, close
from tests.train.models import CONFIG, norm, texts

INPUTS = inputs_of(texts_of(texts(0, 5)))
KEY = jax.random.key(11)


@jax.jit
def states(encoder, key):
    return dropout(encoder, 0.4, key).forward(INPUTS)


def test_a_number_is_dropped_or_grows():
    x = np.full((100, 301), 3.0, np.float32)
    y = np.asarray(drop(jnp.asarray(x), 0.25, KEY))
    assert set(np.unique(y)) == {0.0, 4.0}
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    assert drop(jnp.asarray(x, jnp.bfloat16), 0.25, KEY).dtype == jnp.bfloat16


def test_rate_zero_is_the_encoder():
    encoder = make(CONFIG)
    assert dropout(encoder, 0.0, KEY) is encoder
    assert dropout(encoder, 0, KEY) is encoder


def test_the_same_key_gives_the_same_bits_and_another_others():
    encoder = make(CONFIG)
    before = jax.tree.leaves(encoder)
    first, again, other = (np.asarray(states(encoder, jax.random.key(i))) for i in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).mean() > 0.9
    assert all(x is y for x, y in zip(before, jax.tree.leaves(encoder), strict=True))


def test_embeddings_and_both_branches_of_every_layer_have_keys_of_their_own():
    noisy = dropout(make(CONFIG), 0.4, KEY)
    assert isinstance(noisy, Encoder)
    keys = [
        noisy.embeddings.key[None],
        noisy.layers.attention.key,
        noisy.layers.feed_forward.key,
    ]
    assert [len(key) for key in keys] == [1, CONFIG.num_layers, CONFIG.num_layers]
    numbers = np.concatenate([np.asarray(jax.random.key_data(key)) for key in keys])
    assert len({tuple(row) for row in numbers.tolist()}) == 1 + 2 * CONFIG.num_layers


def test_it_acts_behind_the_embeddings_and_before_both_residual_sums():
    encoder = make(CONFIG)
    noisy = dropout(encoder, 0.4, KEY)

    @jax.jit
    def by_hand(encoder):
        x = drop(encoder.embeddings(INPUTS, encoder.position), 0.4, noisy.embeddings.key)
        metadata = AttentionMetadata(encoder.position, INPUTS.positions, INPUTS.segments)
        for i in range(CONFIG.num_layers):
            layer = Encoder.layer(encoder, i)
            branch = layer.attention(x, metadata, encoder.attention)
            a = layer.attention_norm(x + drop(branch, 0.4, noisy.layers.attention.key[i]))
            branch = layer.feed_forward(a)
            x = layer.output_norm(a + drop(branch, 0.4, noisy.layers.feed_forward.key[i]))
        return x

    close(states(encoder, KEY), by_hand(encoder), ENCODER)


def test_gradients_have_the_tree_of_the_encoder_that_was_passed():
    encoder = make(CONFIG)
    gradient = jax.jit(jax.grad(lambda encoder: (states(encoder, KEY) ** 3).sum()))(encoder)
    assert jax.tree.structure(gradient) == jax.tree.structure(encoder)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
        assert norm(leaf) > 0


def random_numbers(function, *arguments):
    """The shapes of random numbers that a function draws, with those of a scan in their axis l."""

    def drawn(jaxpr, times):
        for step in jaxpr.eqns:
            if step.primitive.name == "random_bits":
                yield (times, *step.params["shape"])
            for inner in jaxprs_in_params(step.params):
                yield from drawn(inner, times * step.params.get("length", 1))

    return sorted(drawn(jax.make_jaxpr(function)(*arguments).jaxpr, 1))


def check_places(encoder):
    """One draw behind the embeddings and two in every layer, all of the shape of the states."""
    found = random_numbers(lambda encoder: dropout(encoder, 0.1, KEY).forward(INPUTS), encoder)
    layers, shape = encoder.config.num_layers, (*INPUTS.ids.shape, encoder.config.hidden_size)
    assert found == sorted([(1, *shape), (layers, *shape), (layers, *shape)])


@pytest.mark.parametrize("golden", FAMILY_FOLDERS, ids=lambda folder: folder.name)
def test_every_family_has_it_in_the_same_places(golden):
    check_places(Encoder.from_pretrained(golden))


@pytest.mark.parametrize("name", ["bert-gelu", "qk-post-norm"])
def test_bert_and_the_qk_norm_variants_too(name):
    check_places(make(CONFIGS[name]))


def test_layers_of_ones_own():
    attention = partial(LayerScheme, scheme=Alibi(CONFIG.num_heads))
    check_places(make(CONFIG, layers=[partial(PreNormLayer, attention=attention)] * 2))


def test_a_forward_pass_of_ones_own_is_kept():
    class Doubled(Encoder):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    encoder = jax.eval_shape(lambda: Doubled(CONFIG, rngs=nnx.Rngs(0)))
    assert isinstance(dropout(encoder, 0.1, KEY), Doubled)


def test_a_layer_without_branches_is_refused():
    class Mixer(nnx.Module):
        def __init__(self, components, *, rngs):
            self.attention = nnx.Param(jnp.ones(3))
            self.mlp = components.feed_forward(rngs=rngs)

    encoder = jax.eval_shape(lambda: Encoder(CONFIG, rngs=nnx.Rngs(0), layers=[Mixer] * 2))
    with pytest.raises(InputError, match="a Mixer has no module attention to put dropout behind"):
        dropout(encoder, 0.1, KEY)
    with pytest.raises(InputError, match="a List has no module attention"):
        dropout(Unrolled(make(CONFIG)), 0.1, KEY)


@pytest.mark.parametrize("rate", [1.0, 1, -0.1, float("nan"), 2])
def test_rates_that_drop_everything_or_less_than_nothing_are_refused(rate):
    with pytest.raises(InputError, match=f"the rate of dropout is {rate}"):
        dropout(make(CONFIG), rate, KEY)


@pytest.mark.parametrize("rate", [True, "0.1", None])
def test_rates_that_are_no_numbers_are_refused(rate):
    with pytest.raises(InputTypeError, match="the rate of dropout is"):
        dropout(make(CONFIG), rate, KEY)
