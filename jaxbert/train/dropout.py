"""Dropout as a function from an encoder to an encoder; no forward pass knows of it."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.model.copyable import with_parts
from jaxbert.model.module import Module
from jaxbert.model.transformer import Transformer

Encoder = TypeVar("Encoder", bound=Transformer)


def drop(x: jax.Array, rate: float, key: jax.Array) -> jax.Array:
    """x / (1 - rate) with probability 1 - rate, else 0, for each number by itself.

    Source: Srivastava et al., Journal of Machine Learning Research 15 (2014), section 10.
    """
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


class Dropped(Module):
    """drop(inner(...)): a module with dropout behind it, in the place of the module."""

    def __init__(self, inner: nnx.Module, rate: float, key: jax.Array) -> None:
        """key is one, or [l] for a module whose weights have the leading axis l."""
        self.inner, self.rate, self.key = inner, rate, key

    def __call__(self, *arguments: Any) -> jax.Array:
        """What the module gives for the arguments, with dropout."""
        return drop(self.inner(*arguments), self.rate, self.key)


# The modules of a layer whose outputs are added to the states.
BRANCHES = ("attention", "feed_forward")


def check_rate(rate: Any) -> float:
    """The rate as a float in [0, 1). Raises InputTypeError and InputError."""
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise InputTypeError(f"the rate of dropout is {shown(rate)}; pass a number from 0 to 1")
    if not 0.0 <= rate < 1.0:
        raise InputError(f"the rate of dropout is {rate}; it must be at least 0 and below 1")
    return float(rate)


def dropout(encoder: Encoder, rate: float, key: jax.Array) -> Encoder:
    """The encoder with dropout behind its embeddings and both branches of every layer.

    Weights are shared, so it is called within a loss: gradients have the tree of the encoder that
    was passed. The same key drops the same numbers; every layer has a key of its own. Rate 0 gives
    the encoder itself. A layer may be of any class that calls its modules `attention` and
    `feed_forward`; InputError names one that has none.

    In a row of more than 1024 tokens, feed-forwards drop the same features 1024 tokens on, since
    they compute chunks of that length (model/chunked.py).
    Differs: BERT also drops attention probabilities, which exist in dense attention alone; T5 also
    drops behind the last norm, and within its feed-forwards.
    Source: arXiv:1810.04805, appendix A.2; arXiv:1706.03762, section 5.4, for the places.
    """
    rate = check_rate(rate)
    layers = encoder.layers
    missing = [name for name in BRANCHES if not isinstance(getattr(layers, name, None), nnx.Module)]
    if missing:
        raise InputError(
            f"a {type(layers).__name__} has no module {missing[0]} to put dropout behind; give the "
            "layer one, or train without dropout"
        )
    if rate == 0.0:
        return encoder
    first, *rest = jax.random.split(key, 1 + len(BRANCHES))
    keys = [jax.random.split(own, encoder.config.num_layers) for own in rest]
    dropped = {
        name: Dropped(getattr(layers, name), rate, own)
        for name, own in zip(BRANCHES, keys, strict=True)
    }
    return with_parts(
        encoder,
        layers=with_parts(layers, **dropped),
        embeddings=Dropped(encoder.embeddings, rate, first),
    )
