"""More position schemes, for trying out: T5's relative bias, rotary embeddings, and sums.

No checkpoint that this package reads uses them; they test the attention kernels, and are there for
experiments.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.axes import Hidden, Positions, Queries
from jaxbert.model.position import Bias, HeadBias, KeyPositions, Position, QueryPositions


class BucketBias(Bias):
    """table[bucket(pos_k - pos_q)]: near offsets have a bucket each, far ones share one
    by the logarithm of the distance.

    Source: Raffel et al., arXiv:1910.10683, section 2.1; T5's published code, for both directions.
    """

    def __init__(self, table: Float[Array, "n c"], max_distance: int) -> None:
        """table [n, c]: c buckets per head; all offsets beyond max_distance share the last one."""
        self.table = nnx.Param(table)
        self.max_distance = max_distance

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of one head; half of the buckets are for keys after the query."""
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
        """The largest number of the table, whatever the distance."""
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
        """Draw the table [n, num_buckets]; the defaults are T5's published values."""
        shape = (num_heads, num_buckets)
        table = std * jax.random.normal(rngs.params(), shape, jnp.float32)
        self.bias = BucketBias(table, max_distance)  # type: ignore[misc]


class Rope(Position):
    """Rotates each pair of features (i, i + h/2) by the angle pos * base^(-2i/h).

    Source: Su et al., arXiv:2104.09864, section 3.2, with the halves paired as in Llama's code.
    """

    def __init__(self, base: float | jax.Array = 10000.0) -> None:
        """base sets how fast the angles fall with i; 10000 is the paper's."""
        self.base = base

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """qk rotated; q k^T then depends on the difference of the positions alone."""
        half = qk.shape[-1] // 2
        speed = self.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
        angle = pos.astype(jnp.float32)[:, None, :, None] * speed[None, None, None, :]
        a, b = jnp.split(qk.astype(jnp.float32), 2, axis=-1)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(qk.dtype)


class SumBias(Bias):
    """The sum of two biases."""

    def __init__(self, first: Bias, second: Bias) -> None:
        """The biases may be of any classes."""
        self.first = first
        self.second = second

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The sum of both terms, [t, s] of one head."""
        return self.first(pos_q, pos_k) + self.second(pos_q, pos_k)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The sum of both bounds; infinite where one of them is."""
        return self.first.upper(distance) + self.second.upper(distance)


class Sum(Position):
    """Two schemes at once: embed and rotate one after the other, biases added."""

    def __init__(self, first: Position, second: Position) -> None:
        """first is applied before second."""
        self.first = first
        self.second = second

    @property
    def bias(self) -> Bias | None:  # type: ignore[override]
        """The sum of both biases, the only one, or None."""
        terms = [scheme.bias for scheme in (self.first, self.second) if scheme.bias is not None]
        return SumBias(*terms) if len(terms) == 2 else next(iter(terms), None)

    @property
    def limit(self) -> int | None:  # type: ignore[override]
        """The smaller of both limits, the only one, or None."""
        limits = [scheme.limit for scheme in (self.first, self.second) if scheme.limit is not None]
        return min(limits, default=None)

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """The states after the first scheme, then the second."""
        return self.second.embed(self.first.embed(x, pos), pos)

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """Queries or keys after the first scheme, then the second."""
        return self.second.rotate(self.first.rotate(qk, pos), pos)
