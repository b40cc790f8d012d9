"""A function of single tokens, on some tokens at a time: long texts in bounded memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxbert.axes import Hidden

# Tokens of a row whose inner states exist at one time.
PIECE = 1024


def in_pieces(function: Callable[[Hidden], Hidden], x: Hidden, size: int = PIECE) -> Hidden:
    """function(x) for a function of each token by itself, on size tokens of a row at a time.

    In a forward pass its inner states then exist for one piece only: at 65,536 tokens they would
    be 1.5 GiB.
    """
    b, t, d = x.shape
    if t <= size:
        return function(x)
    pieces = jnp.pad(x, [(0, 0), (0, -t % size), (0, 0)]).reshape(b, -1, size, d)
    done = jax.lax.map(function, jnp.moveaxis(pieces, 1, 0))
    return jnp.moveaxis(done, 0, 1).reshape(b, -1, d)[:, :t]
