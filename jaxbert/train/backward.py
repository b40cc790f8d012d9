"""Projections with a backward pass that is faster on a CPU, and the same gradients.

They are for training alone: a function with a gradient of its own has no derivative in forward
mode, which a Projection has. Their gradients can be differentiated again in either mode.
"""

from functools import partial
from math import prod
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float

from jaxbert.model.layers import Projection

Model = TypeVar("Model")
States = Float[Array, "t i"]  # i features go into a product, o come out
Weight = Float[Array, "i o"]
Products = Float[Array, "t o"]

# A B in float32, at full float32 precision.
matrix_product = partial(
    jnp.matmul, precision=Precision.HIGHEST, preferred_element_type=jnp.float32
)


def copied(x: jax.Array) -> jax.Array:
    """x, as an array that XLA has to make before it goes on."""
    made: jax.Array = jax.lax.optimization_barrier(x)  # type: ignore[no-untyped-call]
    return made


@jax.custom_vjp
def product(x: States, weight: Weight) -> Products:
    """x W, of which the gradient of W is x^T dy.

    JAX's own is (dy^T x)^T, which copies a wide dy and the result, and of which the product
    [o, t] [t, i] takes longer than [i, t] [t, o].
    """
    return matrix_product(x, weight)


def keep(x: States, weight: Weight) -> tuple[Products, tuple[States, Weight]]:
    """The product, and both factors for its gradient."""
    return matrix_product(x, weight), (x, weight)


def pull(kept: tuple[States, Weight], dy: Products) -> tuple[States, Weight]:
    """The gradients of x and W from that of the product."""
    x, weight = kept
    i, o = weight.shape
    # A copy of a narrow x costs less than to read it across its rows.
    across = copied(x.T) if i <= o else x.T
    return matrix_product(dy, weight.T), matrix_product(across, dy)


product.defvjp(keep, pull)


class TrainedProjection(Projection):
    """A Projection by `product` in float32, and as it was in other dtypes.

    `product` sums over the last axes of x and the first of W; a spec that sums over others is
    computed as it was.
    """

    def __init__(self, projection: Projection) -> None:
        """Take over the weights of a projection."""
        vars(self).update(vars(projection))

    def __call__(self, x: jax.Array) -> jax.Array:
        """x W + b in float32, as a Projection's."""
        weight = self.weight[...]
        factors, result = self.spec.split("->")
        of_x, of_weight = factors.split(",")
        inner = (x.ndim + weight.ndim - len(result)) // 2  # axes that both have
        in_order = (
            of_x[-inner:] == of_weight[:inner] and result == of_x[:-inner] + of_weight[inner:]
        )
        if not (in_order and x.dtype == weight.dtype == jnp.float32):
            return super().__call__(x)
        shape = (*x.shape[:-inner], *weight.shape[inner:])
        i = prod(weight.shape[:inner])
        y = product(x.reshape(-1, i), weight.reshape(i, -1)).reshape(shape)
        return y if self.bias is None else y + self.bias[...][None, None]


def trained(part: Any) -> Any:
    """The part as it is trained, which for a projection is another."""
    return TrainedProjection(part) if type(part) is Projection else part


def with_faster_gradients(model: Model, platform: str) -> Model:
    """The model with TrainedProjections on a CPU, and as it is on other platforms."""
    if platform != "cpu":
        return model
    return jax.tree.map(trained, model, is_leaf=lambda part: type(part) is Projection)
