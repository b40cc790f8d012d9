"""A function of single tokens, computed in chunks: long texts in bounded memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxbert.model.axes import Hidden

# Tokens of a row whose intermediate states exist at one time.
CHUNK = 1024


def chunked(function: Callable[[Hidden], Hidden], x: Hidden, size: int = CHUNK) -> Hidden:
    """function(x) for a function that acts on each token alone, `size` tokens of a row at a time.

    In a forward pass the intermediate states then exist for one chunk only: at 65,536 tokens they
    would take 1.5 GiB.
    """
    b, t, d = x.shape
    if t <= size:
        return function(x)
    chunks = jnp.pad(x, [(0, 0), (0, -t % size), (0, 0)]).reshape(b, -1, size, d)
    results = jax.lax.map(function, jnp.moveaxis(chunks, 1, 0))
    return jnp.moveaxis(results, 0, 1).reshape(b, -1, d)[:, :t]
