"""Where order enters an encoder: added to the states, turned into q and k, added to the scores.

A scheme is an object passed to the encoder. It sees positions, never a length: the same lines run
on a whole row, on a tile of it and on packed texts. Write your own by subclassing Position (and
Bias); notes/03-positions.md is the tutorial.
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.axes import Hidden, Positions, Queries
from jaxbert.layers import lookup

Row = Int[Array, "t"]
Column = Int[Array, "s"]
HeadBias = Float[Array, "t s"]


class Scheme(nnx.Module):
    """A module whose arrays are always leaves, also those that tracing turns into constants.

    Differs: nnx takes an array made inside jit from numbers alone for a static field.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Mark arrays as data."""
        bare = hasattr(value, "dtype") and not isinstance(value, nnx.Variable)
        super().__setattr__(name, nnx.data(value) if bare else value)


class Bias(Scheme):
    """A term of the scores: bias(pos_q, pos_k) -> [t, s], float32, written for one head.

    Every array it holds has the leading axis n; attention takes the heads apart before it calls,
    so inside a call that axis is gone.
    """

    def __call__(self, pos_q: Row, pos_k: Column) -> HeadBias:
        """The term for queries at pos_q and keys at pos_k, added after the division by sqrt(h)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(pos_q, pos_k)")


class Position(Scheme):
    """No position at all; the base of every scheme, whose three places each do nothing."""

    bias: ClassVar[Bias | None] = None  # or an instance's field or property
    limit: ClassVar[int | None] = None  # how many positions the scheme knows; None: no end

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """What the states become before the first norm."""
        return x

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """What queries and keys become before their product."""
        return qk

    def __add__(self, other: "Position") -> "Position":
        """Both schemes at once."""
        return Sum(self, other)


class Learned(Position):
    """x + table[pos]: one learned vector per position (BERT, arXiv:1810.04805, section 3)."""

    def __init__(self, max_positions: int, hidden_size: int, *, rngs: nnx.Rngs, std: float) -> None:
        """Draw the table [max_positions, d]."""
        shape = (max_positions, hidden_size)
        self.table = nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))

    @property
    def limit(self) -> int:  # type: ignore[override]
        """The rows of the table; a longer text is refused."""
        return self.table.shape[0]

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """Add the vector of each position; NaN for one that the table does not have."""
        return x + lookup(self.table[...], pos).astype(x.dtype)


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """2^(-8(i+1)/n) for n a power of two; else those of the power below, then between them.

    Source: Press et al., arXiv:2108.12409, section 3 and the authors' code for other head counts.
    """
    power = 2 ** int(math.log2(num_heads))
    exact = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return (*exact, *between)


class AlibiBias(Bias):
    """-slope |pos_q - pos_k|; one slope per head."""

    def __init__(self, slopes: Float[Array, " n"]) -> None:
        """Hold the slopes."""
        self.slopes = slopes

    def __call__(self, pos_q: Row, pos_k: Column) -> HeadBias:
        """Falls off alike to both sides, without end."""
        return -self.slopes * jnp.abs(pos_q[:, None] - pos_k[None, :]).astype(jnp.float32)


class Alibi(Position):
    """Symmetric ALiBi (arXiv:2108.12409; both sides: arXiv:2310.19923, section 3.1); no weights.

    Differs: the published ALiBi is causal; an encoder needs the distance, |t - s|.
    """

    def __init__(self, num_heads: int) -> None:
        """Any number of heads."""
        self.num_heads = num_heads

    @property
    def bias(self) -> Bias:  # type: ignore[override]
        """Computed from the positions wherever it is needed; never a table."""
        return AlibiBias(jnp.asarray(alibi_slopes(self.num_heads), jnp.float32))


class BucketBias(Bias):
    """table[bucket(pos_k - pos_q)]: near offsets have a bucket each, far ones share by logarithm.

    Source: Raffel et al., arXiv:1910.10683, section 2.1; T5's published code, for both directions.
    """

    def __init__(self, table: Float[Array, "n c"], max_distance: int) -> None:
        """table [n, c]: c buckets per head; beyond max_distance all offsets share the last one."""
        self.table = nnx.Param(table)
        self.max_distance = max_distance

    def __call__(self, pos_q: Row, pos_k: Column) -> HeadBias:
        """Half of the buckets are for keys after the query."""
        side = self.table.shape[-1] // 2
        exact = side // 2
        offset = pos_k[None, :] - pos_q[:, None]
        distance = jnp.abs(offset)
        ratio = jnp.maximum(distance, exact).astype(jnp.float32) / exact
        far = exact + (
            jnp.log(ratio) / math.log(self.max_distance / exact) * (side - exact)
        ).astype(jnp.int32)
        bucket = jnp.where(distance < exact, distance, jnp.minimum(far, side - 1))
        return self.table[...][bucket + side * (offset > 0)].astype(jnp.float32)


class T5Bias(Position):
    """A learned number per head and bucket of offsets, added to the scores."""

    def __init__(
        self,
        num_heads: int,
        *,
        rngs: nnx.Rngs,
        std: float,
        num_buckets: int = 32,
        max_distance: int = 128,
    ) -> None:
        """32 buckets up to distance 128 are T5's published values."""
        shape = (num_heads, num_buckets)
        table = std * jax.random.normal(rngs.params(), shape, jnp.float32)
        self.bias = BucketBias(table, max_distance)  # type: ignore[misc]


class Rope(Position):
    """Turns each pair of features (i, i + h/2) by the angle pos * base^(-2i/h).

    Source: Su et al., arXiv:2104.09864, section 3.2, with the halves paired as in Llama's code.
    """

    def __init__(self, base: float = 10000.0) -> None:
        """base 10000 is the paper's."""
        self.base = base

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """The product of two turned vectors depends on the difference of their positions alone."""
        half = qk.shape[-1] // 2
        speed = self.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
        angle = pos.astype(jnp.float32)[:, None, :, None] * speed[None, None, None, :]
        a, b = jnp.split(qk.astype(jnp.float32), 2, axis=-1)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(qk.dtype)


class SumBias(Bias):
    """The sum of two terms of the scores."""

    def __init__(self, first: Bias, second: Bias) -> None:
        """Hold both."""
        self.first = first
        self.second = second

    def __call__(self, pos_q: Row, pos_k: Column) -> HeadBias:
        """Add them."""
        return self.first(pos_q, pos_k) + self.second(pos_q, pos_k)


class Sum(Position):
    """Two schemes at once: states and rotations in turn, terms of the scores added."""

    def __init__(self, first: Position, second: Position) -> None:
        """Hold both."""
        self.first = first
        self.second = second

    @property
    def bias(self) -> Bias | None:  # type: ignore[override]
        """The sum of what there is."""
        terms = [part.bias for part in (self.first, self.second) if part.bias is not None]
        return SumBias(*terms) if len(terms) == 2 else next(iter(terms), None)

    @property
    def limit(self) -> int | None:  # type: ignore[override]
        """The smaller of what there is."""
        limits = [part.limit for part in (self.first, self.second) if part.limit is not None]
        return min(limits, default=None)

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """First, then second."""
        return self.second.embed(self.first.embed(x, pos), pos)

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """First, then second."""
        return self.second.rotate(self.first.rotate(qk, pos), pos)
