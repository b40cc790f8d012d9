"""Layers one by one: the states and gradients of the scan, which reach the stacked weights."""

import jax
import numpy as np
from flax import nnx
from jax.extend.core import jaxprs_in_params

from jaxbert import Encoder
from jaxbert.inference.unrolled import Unrolled, sliced_where_faster
from jaxbert.model.layer_variants import PreNormLayer
from jaxbert.train.dropout import dropout
from jaxbert.train.objectives import inputs_of, texts_of
from jaxbert.train.trainable import value_and_grad
from tests.models import make
from tests.tolerances import ENCODER, close
from tests.train.models import CONFIG, close_gradients, texts

TEXTS = texts(0, 5)
KEY = jax.random.key(3)


def sliced(encoder):
    """The encoder as a CPU runs it."""
    return sliced_where_faster(encoder, "cpu")


def squares(run):
    """An objective: the square of a weighted mean of the states of run(encoder, key)."""

    def objective(encoder, batch, key):
        hidden = run(encoder, key).forward(inputs_of(texts_of(batch)))
        weights = np.linspace(-1, 2, hidden.size, dtype=np.float32).reshape(hidden.shape)
        return (hidden * weights).mean() ** 2, {}

    return objective


def primitives(jaxpr):
    """The names of all operations, also of those within others."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jaxprs_in_params(equation.params):
            yield from primitives(inner)


def test_loss_and_gradients_are_those_of_the_scan():
    encoder, drop = make(CONFIG), lambda encoder, key: dropout(encoder, 0.3, key)
    for before in (lambda encoder, key: encoder, drop):
        scanned = jax.jit(value_and_grad(squares(before)))
        listed = jax.jit(value_and_grad(squares(lambda e, key, f=before: sliced(f(e, key)))))
        (wanted, _), gradients = scanned(encoder, TEXTS, KEY)
        (loss, _), found = listed(encoder, TEXTS, KEY)
        close(loss, wanted, ENCODER)
        close_gradients(found, gradients)


def test_nothing_is_scanned():
    objective = squares(lambda encoder, key: sliced(encoder))
    jaxpr = jax.make_jaxpr(value_and_grad(objective))(make(CONFIG), TEXTS, KEY)
    names = set(primitives(jaxpr.jaxpr))
    assert "scan" not in names
    assert "dot_general" in names


def test_an_encoder_that_computes_otherwise_is_left_alone():
    class Own(Encoder):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    own = Own(CONFIG, rngs=nnx.Rngs(0))
    assert sliced(own) is own
    assert sliced_where_faster(encoder := make(CONFIG), "tpu") is encoder
    varied = Encoder(CONFIG, rngs=nnx.Rngs(0), layers=[PreNormLayer] * CONFIG.num_layers)
    assert isinstance(sliced(varied), Unrolled)
