"""The position schemes that `jaxbert lab extrapolate` knows by name, and those of a user's file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.corpus.files import bytes_sha256
from jaxbert.errors import InputError, shown
from jaxbert.lab.loading import Biased, load, maker
from jaxbert.model.position import (
    Alibi,
    Bias,
    HeadBias,
    KeyPositions,
    Learned,
    Position,
    QueryPositions,
)
from jaxbert.model.position_schemes import Rope, T5Bias


class Asymmetric(Bias):
    """ALiBi that tells left from right: every other head falls 4 times as fast on one side.

    Even heads fall faster after the query, odd ones before it; the slopes of the slower side are
    2^(-8i/m), i = 0 ... m - 1, for the m heads of each kind (notes/11-extrapolation.md).
    """

    def __init__(self, num_heads: int) -> None:
        """The slopes before the query and after it, [n] each."""
        head = jnp.arange(num_heads)
        slope = 2.0 ** (-8.0 * (head // 2).astype(jnp.float32) / ((num_heads + 1) // 2))
        self.before = jnp.where(head % 2 == 0, slope, 4.0 * slope)
        self.after = jnp.where(head % 2 == 0, 4.0 * slope, slope)

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of every pair of one head, in float32."""
        offset = (pos_k[None, :] - pos_q[:, None]).astype(jnp.float32)
        return jnp.where(offset > 0, -self.after * offset, self.before * offset)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The term of the side on which it falls more slowly."""
        return -jnp.minimum(self.before, self.after) * distance.astype(jnp.float32)


class Sizes(NamedTuple):
    """What a scheme is made for: heads, model width, tokens of the longest row, width of draws."""

    heads: int
    width: int
    tokens: int
    std: float


# A function of sizes and a seed.
Make = Callable[[Sizes, int], Position]

NAMED: dict[str, Make] = {
    "alibi": lambda own, seed: Alibi(own.heads),
    "asymmetric": lambda own, seed: Biased(Asymmetric(own.heads)),
    "rope": lambda own, seed: Rope(),
    "t5": lambda own, seed: T5Bias(own.heads, rngs=nnx.Rngs(seed), std=own.std),
    "learned": lambda own, seed: Learned(own.tokens, own.width, rngs=nnx.Rngs(seed), std=own.std),
    "none": lambda own, seed: Position(),
}


class Scheme(NamedTuple):
    """A scheme by its title, how it is made, and the sum of the file that defines it, or ""."""

    title: str
    make: Make
    sha256: str


def scheme(spec: str) -> Scheme:
    """A name of NAMED, or my.py:Scheme. Raises InputError for anything else."""
    if spec in NAMED:
        return Scheme(spec, NAMED[spec], "")
    if ".py" not in spec:
        raise InputError(
            f"{shown(spec)} is no scheme; choose one of {', '.join(NAMED)}, or name your own as "
            "my.py:Scheme"
        )
    title, found = load(spec)

    def make(own: Sizes, seed: int) -> Position:
        return maker(title, found, heads=own.heads, width=own.width, length=own.tokens)()

    return Scheme(title, make, bytes_sha256(Path(spec.rpartition(":")[0]).read_bytes()))
