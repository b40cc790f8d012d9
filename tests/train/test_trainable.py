"""Only nnx.Param leaves are trained, whatever else a model holds; some of them may be frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxbert import Bias, Position
from jaxbert.checkpoint.module import weights
from jaxbert.errors import InputError, InputTypeError
from jaxbert.model.copyable import with_parts
from jaxbert.train.trainable import is_frozen, parameters, value_and_grad, with_parameters
from tests.models import make
from tests.tolerances import ENCODER, close
from tests.train.models import CONFIG, close_gradients, text_model

IDS = np.random.default_rng(0).integers(5, 31, (3, 11)).astype(np.int32)
KEY = jax.random.key(0)


class WindowBias(Bias):
    """The scheme of notes/03-positions.md, with a constant float beside its integers."""

    def __init__(self, widths):
        self.widths = jnp.asarray(widths)
        self.outside = jnp.full((3,), -1e4)
        self.slopes = nnx.Param(jnp.full((3,), 0.25))

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        inside = -self.slopes[...] * distance.astype(jnp.float32)
        return jnp.where(distance <= self.widths, inside, self.outside)


class Window(Position):
    def __init__(self, widths):
        self.bias = WindowBias(widths)


def window_encoder():
    return with_parts(make(CONFIG), position=Window([1, 2, 20]))


def objective(encoder, batch, key):
    states = encoder(batch["ids"])
    return (states**3).sum() / 1000.0, {"largest": states.max()}


gradient = jax.jit(value_and_grad(objective))


def test_jax_grad_alone_refuses_what_this_trains():
    with pytest.raises(TypeError, match="int32"):
        jax.grad(lambda encoder: objective(encoder, {"ids": IDS}, KEY)[0])(window_encoder())


def test_gradients_are_those_of_params_alone():
    encoder = window_encoder()
    (loss, metrics), found = gradient(encoder, {"ids": IDS}, KEY)
    expected, largest = objective(encoder, {"ids": IDS}, KEY)
    close(loss, expected, ENCODER)  # projections in a step may add up in another order
    assert set(metrics) == set(largest)
    names = {*weights(make(CONFIG)), "position.bias.slopes"}
    assert set(found) == set(parameters(encoder)) == names
    assert np.abs(found["position.bias.slopes"]).min() > 0

    def of_word(word):
        changed = with_parameters(encoder, {"embeddings.word": word})
        return objective(changed, {"ids": IDS}, KEY)[0]

    word = jax.jit(jax.grad(of_word))(encoder.embeddings.word[...])
    close_gradients({"word": found["embeddings.word"]}, {"word": word})


def test_constants_do_not_move_and_all_parameters_do():
    """Also with weight decay, which moves whatever an optimizer is given."""
    encoder, transform = window_encoder(), optax.adamw(1e-2, weight_decay=0.1)
    before = parameters(encoder)
    _, found = gradient(encoder, {"ids": IDS}, KEY)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a power of integers
        updates, _ = transform.update(found, transform.init(before), before)
    after = with_parameters(encoder, optax.apply_updates(before, updates))
    assert jax.tree.structure(after) == jax.tree.structure(encoder)
    for name, value in parameters(after).items():
        assert (np.asarray(value) != np.asarray(before[name])).any(), name
    bias = after.position.bias
    assert bias.widths is encoder.position.bias.widths
    assert (np.asarray(bias.outside) == -1e4).all()


def test_names_are_those_of_weights_and_values_come_back():
    model = text_model()
    values = parameters(model)
    assert set(values) == {f"encoder.{name}" for name in weights(model.encoder)}
    same = with_parameters(model, values)
    pairs = zip(jax.tree.leaves(same), jax.tree.leaves(model), strict=True)
    assert all(x is y for x, y in pairs)


FREEZE = {
    "path": ("embeddings.word",),
    "several": ("embeddings", "layers.attention"),
    "function": lambda path: path.endswith(("bias", "shift")),
}


@pytest.mark.parametrize("kind", FREEZE)
def test_what_is_frozen_has_no_gradient(kind):
    encoder, frozen = make(CONFIG), FREEZE[kind]
    every, trained = parameters(encoder), parameters(encoder, frozen)
    left_out = set(every) - set(trained)
    beginnings = {
        "path": {"embeddings.word"},
        "several": {n for n in every if n.startswith(("embeddings.", "layers.attention."))},
        "function": {n for n in every if n.split(".")[-1] in ("bias", "shift")},
    }
    assert left_out == beginnings[kind]
    shapes = jax.eval_shape(value_and_grad(objective, frozen), encoder, {"ids": IDS}, KEY)
    assert set(shapes[1]) == set(trained)


def test_a_beginning_ends_at_a_dot():
    """layers.attention_norm is no part of layers.attention."""
    trained = parameters(make(CONFIG), ["layers.attention"])
    assert "layers.attention_norm.scale" in trained


@pytest.mark.parametrize("frozen", [("embeddings.wrod",), ("embedding",), ("",)])
def test_a_beginning_of_no_path_is_refused(frozen):
    with pytest.raises(InputError, match=r"no parameter's path begins so; the paths are "):
        parameters(make(CONFIG), frozen)


def test_wrong_types_are_refused():
    with pytest.raises(InputTypeError, match="frozen is 'embeddings'; pass paths"):
        parameters(make(CONFIG), "embeddings")
    with pytest.raises(InputTypeError, match="frozen is"):
        is_frozen((3,), [])
    with pytest.raises(InputError, match=r"no parameter 'embeddings.wrod'"):
        with_parameters(make(CONFIG), {"embeddings.wrod": 3.0})


def test_a_param_of_integers_is_refused():
    encoder = window_encoder()
    encoder.position.bias.widths = nnx.Param(encoder.position.bias.widths)
    with pytest.raises(InputError, match=r"position.bias.widths is an nnx.Param of int32"):
        parameters(encoder)
