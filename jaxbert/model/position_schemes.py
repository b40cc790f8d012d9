"""More position schemes, for trying out: T5's relative bias, rotary embeddings, and sums.

No checkpoint that this package reads uses them; they are here because the attention kernels and a
researcher's experiments need more than one kind of scheme.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.axes import Hidden, Positions, Queries
from jaxbert.model.position import Bias, HeadBias, KeyPositions, Position, QueryPositions


class BucketBias(Bias):
    """table[bucket(pos_k - pos_q)]: near offsets have a bucket each, far ones share by logarithm.

    Source: Raffel et al., arXiv:1910.10683, section 2.1; T5's published code, for both directions.
    """

    def __init__(self, table: Float[Array, "n c"], max_distance: int) -> None:
        """table [n, c]: c buckets per head; beyond max_distance all offsets share the last one."""
        self.table = nnx.Param(table)
        self.max_distance = max_distance

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
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
        return self.table[...][bucket + jnp.where(offset > 0, side, 0)].astype(jnp.float32)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The largest number of the table, at any distance."""
        return jnp.full(distance.shape, self.table[...].max().astype(jnp.float32))


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
        """The product of two rotated vectors depends on the difference of their positions alone."""
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

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """Add them."""
        return self.first(pos_q, pos_k) + self.second(pos_q, pos_k)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The sum of both; without end where one of them knows none."""
        return self.first.upper(distance) + self.second.upper(distance)


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
