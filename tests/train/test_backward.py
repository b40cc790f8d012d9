"""What a step computes otherwise on a CPU: the values and gradients of the model's own parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert.model.layers import Projection
from jaxbert.train import losses
from jaxbert.train.backward import TrainedProjection, with_faster_gradients
from jaxbert.train.objectives import distil
from jaxbert.train.trainable import parameters, value_and_grad, with_parameters
from tests.models import make, randomised
from tests.tolerances import FUNCTION, close
from tests.train.models import CONFIG, close_gradients, text_model, texts

SIZES = {"d": 15, "n": 3, "h": 5, "f": 13, "g": 2}
SPECS = ("btd,dnh->btnh", "btnh,nhd->btd", "btd,dgf->btgf", "btd,df->btf", "btf,fd->btd")
# Of a variant of one's own: a weight that is transposed, two axes in the other order.
OWN_SPECS = ("btd,fd->btf", "btnh,hnd->btd")
KEY = jax.random.key(3)
BATCH = texts(0, 7)
BATCH["teacher"] = np.random.default_rng(1).normal(size=(7, CONFIG.hidden_size)).astype(np.float32)


def projection(spec, use_bias=True):
    """A projection with weights and biases that are drawn, and an x for it."""
    made = randomised(Projection(spec, SIZES, rngs=nnx.Rngs(0), std=1.0, use_bias=use_bias))
    shape = {**SIZES, "b": 2, "t": 7}
    x = np.random.default_rng(2).normal(size=[shape[axis] for axis in spec.split(",")[0]])
    return made, jnp.asarray(x.astype(np.float32))


def square(project, x):
    """A number that depends on every product, each in its own way."""
    y = project(x)
    weights = np.linspace(-1, 2, y.size, dtype=np.float32).reshape(y.shape)
    return (jnp.sin(y) * weights).sum()


@pytest.mark.parametrize("use_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("spec", SPECS + OWN_SPECS)
def test_a_trained_projection_has_the_products_and_gradients_of_its_own(spec, use_bias):
    own, x = projection(spec, use_bias)
    other = TrainedProjection(own)
    close(other(x), own(x), FUNCTION)
    wanted = jax.grad(square, argnums=(0, 1))(own, x)
    found = jax.grad(square, argnums=(0, 1))(other, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        close(a, b, FUNCTION)


def test_other_dtypes_are_multiplied_as_ever():
    own, x = projection(SPECS[0])
    own, x = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (own, x))
    np.testing.assert_array_equal(TrainedProjection(own)(x), own(x))


def test_every_projection_is_exchanged_on_a_cpu_alone():
    class Own(Projection):
        pass

    encoder = make(CONFIG)
    encoder.layers.attention.key = Own("btd,dnh->btnh", CONFIG.sizes, rngs=nnx.Rngs(0), std=1.0)
    layer = with_faster_gradients(encoder, "cpu").layers
    assert type(layer.attention.query) is type(layer.feed_forward.up) is TrainedProjection
    assert type(layer.attention.key) is Own
    assert type(encoder.layers.attention.query) is Projection
    assert with_faster_gradients(encoder, "gpu") is encoder


def by_the_definition(model, batch, key):
    """The loss and gradients of `distil` with the model's own projections."""
    objective = distil(losses.cosine)

    def of_values(values):
        return objective(with_parameters(model, values), batch, key)[0]

    return jax.value_and_grad(of_values)(parameters(model))


def test_the_gradients_of_a_step_are_those_of_the_model():
    model = text_model()
    wanted, slopes = jax.jit(by_the_definition)(model, BATCH, KEY)
    (loss, _), found = jax.jit(value_and_grad(distil(losses.cosine)))(model, BATCH, KEY)
    close(loss, wanted, FUNCTION)
    close_gradients(found, slopes)


def test_gradients_can_be_differentiated_forwards():
    """A Hessian times the gradient, by forward mode over the gradients."""
    model = text_model()

    def product_with_hessian(gradients):
        def of_values(values):
            return gradients(with_parameters(model, values))

        values = parameters(model)
        direction = of_values(values)
        return jax.jvp(of_values, (values,), (direction,))[1]

    ours = jax.jit(
        lambda: product_with_hessian(
            lambda own: value_and_grad(distil(losses.cosine))(own, BATCH, KEY)[1]
        )
    )()
    theirs = jax.jit(
        lambda: product_with_hessian(lambda own: by_the_definition(own, BATCH, KEY)[1])
    )()
    close_gradients(ours, theirs)
