"""The layers without position or attention: projections, norms, feed-forwards.

Projections accumulate in float32 and are rounded to the dtype of the states once; norms and
activations are computed in float32 whatever the dtype of the weights.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from jaxbert.errors import ConfigError, InputError
from jaxbert.model.activations import Activation
from jaxbert.model.axes import Hidden, Sizes


def lookup(table: Float[Array, "v d"], index: Int[Array, "b t"]) -> Float[Array, "b t d"]:
    """table[index], and NaN where index is outside the table.

    Differs: indexing in JAX clamps, which would give a plausible vector for a wrong id.
    """
    rows = table.at[index]
    return rows.get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def layer_norm(
    x: jax.Array, scale: jax.Array, shift: jax.Array, eps: float, axes: tuple[int, ...]
) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + shift over axes, in float32, cast to x's dtype.

    Differs: flax computes the variance as E[x^2] - E[x]^2 by default, which loses 9.4e-5 on a state
    with one outlying feature; here it is two passes, as in torch.
    """
    wide = x.astype(jnp.float32)
    centred = wide - wide.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    normed = centred * jax.lax.rsqrt(variance + eps)
    return (normed * scale.astype(jnp.float32) + shift.astype(jnp.float32)).astype(x.dtype)


def summed_axes(spec: str) -> tuple[list[int], list[int]]:
    """The axes of x and those of W that are summed over, in pairs, as x has them: `nh`, not `hn`.

    jnp.einsum takes them in alphabetical order, for which XLA copies W[n, h, d] in every call.
    """
    states, weight = spec.split("->")[0].split(",")
    summed = [axis for axis in states if axis in weight]
    return [states.index(axis) for axis in summed], [weight.index(axis) for axis in summed]


class Projection(nnx.Module):
    """x W + b as a product over the letters of axes.py; the result is float32.

    spec names the axes of x, of W and of the result: those left of x first, then those left of W,
    so that nothing is transposed. `btd,dnh->btnh` has W[d, n, h] and b[n, h]. b starts at zero.
    """

    def __init__(
        self, spec: str, sizes: Sizes, *, rngs: nnx.Rngs, std: float, use_bias: bool = True
    ) -> None:
        """Draw W from a normal distribution of width std; sizes gives the size of each letter."""
        operands, result = spec.split("->")
        states, weight = operands.split(",")
        contracted = set(states) & set(weight)
        if result != "".join(axis for axis in states + weight if axis not in contracted):
            raise ConfigError(f"the result of {spec} must have x's own axes, then those of W")
        shape = tuple(sizes[axis] for axis in weight)
        bias_shape = tuple(sizes[axis] for axis in result if axis in weight)
        self.spec = spec
        self.weight = nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(bias_shape, jnp.float32)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """x W + b at full float32 precision (a TPU's default would round to bfloat16).

        Raises InputError for x of another number of axes than spec names.
        """
        weight, wide = self.weight[...], jnp.float32
        named = self.spec.index(",")
        if x.ndim != named:
            raise InputError(f"{self.spec} takes x of {named} axes, and this one has {x.ndim}")
        axes = summed_axes(self.spec), ((), ())
        y = jax.lax.dot_general(
            x, weight, axes, precision=Precision.HIGHEST, preferred_element_type=wide
        )
        return y if self.bias is None else y + self.bias[...].astype(wide)[None, None]


class LayerNorm(nnx.Module):
    """layer_norm over the model width, with a learned scale and shift."""

    def __init__(self, sizes: Sizes, eps: float) -> None:
        """Initialise scale [d] to one and shift [d] to zero."""
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((sizes["d"],), jnp.float32))
        self.shift = nnx.Param(jnp.zeros((sizes["d"],), jnp.float32))

    def __call__(self, x: Hidden) -> Hidden:
        """Normalise each token's state over its d features."""
        scale, shift = self.scale[...][None, None], self.shift[...][None, None]
        return layer_norm(x, scale, shift, self.eps, (-1,))


class Mlp(nnx.Module):
    """W2 act(W1 x + b1) + b2, BERT's feed-forward (arXiv:1810.04805, section 3)."""

    def __init__(
        self,
        sizes: Sizes,
        activation: Activation,
        rngs: nnx.Rngs,
        std: float,
        use_bias: bool = True,
        down_bias: bool = True,
    ) -> None:
        """Draw both projections; use_bias is about the first one, down_bias about the second."""
        self.activation = activation
        self.up = Projection("btd,df->btf", sizes, rngs=rngs, std=std, use_bias=use_bias)
        self.down = Projection("btf,fd->btd", sizes, rngs=rngs, std=std, use_bias=down_bias)

    def __call__(self, x: Hidden) -> Hidden:
        """The output of the feed-forward for each token, in x's dtype."""
        inner = self.activation(self.up(x)).astype(x.dtype)
        return self.down(inner).astype(x.dtype)


class Glu(nnx.Module):
    """W2 (act(gate) * value) + b2 with [gate, value] = W1 x (Shazeer, arXiv:2002.05202).

    W1[d, g, f] holds the gate at g = 0 and the value at g = 1, in every variant: where a checkpoint
    stores them the other way round, its conversion rule swaps them.
    """

    def __init__(
        self,
        sizes: Sizes,
        activation: Activation,
        rngs: nnx.Rngs,
        std: float,
        down_bias: bool = True,
    ) -> None:
        """Draw both projections; the first has no bias, the second as down_bias says."""
        self.activation = activation
        self.up = Projection("btd,dgf->btgf", sizes, rngs=rngs, std=std, use_bias=False)
        self.down = Projection("btf,fd->btd", sizes, rngs=rngs, std=std, use_bias=down_bias)

    def __call__(self, x: Hidden) -> Hidden:
        """The output of the feed-forward for each token, in x's dtype."""
        # Unlike indexing, split has a gradient that is one array in the order of W1's product.
        gate, value = (half.squeeze(-2) for half in jnp.split(self.up(x), 2, axis=-2))
        inner = (self.activation(gate) * value).astype(x.dtype)
        return self.down(inner).astype(x.dtype)
