"""mean_pool: masked mean pooling of states that the caller has."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxbert.arguments import array
from jaxbert.errors import InputError, InputTypeError
from jaxbert.model.axes import Pooled
from jaxbert.model.head import mean
from jaxbert.process.backend import computing


def mean_pool(hidden: ArrayLike, attention_mask: ArrayLike) -> Pooled:
    """The mean of hidden [b, t, d] over the tokens where attention_mask [b, t] is true: [b, d].

    A row whose mask is all zero has the zero vector. float32 whatever the dtype of hidden is.
    Differs: sentence-transformers rounds the result to the dtype of hidden.
    """
    with computing():
        return _mean_pool(*checked(hidden, attention_mask))


_mean_pool = jax.jit(mean)


def checked(hidden: Any, attention_mask: Any) -> tuple[jax.Array, jax.Array]:
    """States [b, t, d] and a mask [b, t] from what a caller passes, which may be traced."""
    x, mask = (
        value if isinstance(value, jax.Array) else array(value, name)
        for value, name in ((hidden, "hidden"), (attention_mask, "attention_mask"))
    )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputTypeError(f"hidden has dtype {x.dtype}; pass the states, which are floats")
    if not any(jnp.issubdtype(mask.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)):
        raise InputTypeError(f"attention_mask has dtype {mask.dtype}; pass zeros and ones")
    if x.ndim != 3 or mask.shape != x.shape[:2]:
        raise InputError(
            f"hidden has shape {x.shape} and attention_mask {mask.shape}; pass [b, t, d] and [b, t]"
        )
    return jnp.asarray(x), jnp.asarray(mask).astype(bool)
