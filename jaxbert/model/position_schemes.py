"""More position schemes: T5's relative bias, rotary embeddings, and sums.

T5 has the bias, nomic-bert and ModernBERT the rotation, and MPNet the sum of the bias and a learned
table.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.errors import ConfigError
from jaxbert.model.axes import Hidden, Positions, Queries
from jaxbert.model.position import (
    Bias,
    HeadBias,
    HeadScores,
    KeyPositions,
    Position,
    PositionRange,
    QueryPositions,
    arithmetic_of,
)


@cache
def bucket_starts(buckets: int, max_distance: int) -> tuple[int, ...]:
    """The first distance of each bucket but the first, in the order of the buckets of one side.

    Half of all buckets are for keys after the query. Of a side's buckets half have one distance
    each, and the others begin at equal steps of the logarithm of the distance, up to max_distance.
    Raises ConfigError for sizes that leave no such buckets.

    Differs: the published code takes the logarithm in float32, and where a bucket begins at a whole
    number its rounding decides; here each step is rounded as there, once, on the host.
    Source: Raffel et al., arXiv:1910.10683, section 2.1; T5's published code, for both directions.
    """
    if buckets < 4:
        raise ConfigError(f"{buckets} buckets of relative positions are too few; give at least 4")
    side = buckets // 2
    exact = side // 2
    if not exact < max_distance < 2**31:
        raise ConfigError(
            f"a largest relative distance of {max_distance} does not fit {buckets} buckets, of "
            f"which {exact} on each side have one distance each; give one of {exact + 1} or more, "
            "in 32 bits"
        )
    steps = np.float32(side - exact)
    whole = np.float32(math.log(max_distance / exact))

    def bucket(distance: int) -> int:
        logarithm = np.float32(math.log(np.float32(distance) / np.float32(exact)))
        return exact + int(logarithm / whole * steps)

    distances = range(exact, max_distance + 1)
    far = (exact + bisect_left(distances, i, key=bucket) for i in range(exact + 1, side))
    return (*range(1, exact + 1), *far)


def step_function(
    distance: Int[Array, "*any"], starts: Sequence[int], values: Sequence[Float[Array, ""]]
) -> Float[Array, "*any"]:
    """values[i], where i is how many of the ascending starts a distance has reached."""
    first, *rest = (value.astype(jnp.float32) for value in values)
    term = jnp.broadcast_to(first, distance.shape)
    for start, value in zip(starts, rest, strict=True):
        term = jnp.where(distance >= start, value, term)
    return term


class StepBias(Bias):
    """A function of the distance that is constant between a few starts, on either side.

    It computes a BucketBias with one comparison and one choice per bucket, and no lookup.
    """

    def __init__(
        self,
        before: Sequence[Float[Array, "*n"]],
        after: Sequence[Float[Array, "*n"]],
        starts: Sequence[int],
    ) -> None:
        """One array per bucket, for keys before the query and after it, and the starts between."""
        self.before = nnx.data(tuple(before))
        self.after = nnx.data(tuple(after))
        self.starts = tuple(starts)

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of one head, in float32."""
        offset = pos_k[None, :] - pos_q[:, None]
        before, after = (
            step_function(jnp.abs(offset), self.starts, side) for side in (self.before, self.after)
        )
        return jnp.where(offset > 0, after, before)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The largest number of the buckets that a distance or any beyond it falls into."""
        # No key after the query is at distance 0, so that its number for it is never used.
        both = [self.before[0], *map(jnp.maximum, self.before[1:], self.after[1:])]
        bounds = list(accumulate(reversed(both), jnp.maximum))
        return step_function(distance, self.starts, bounds[::-1])


class BucketBias(Bias):
    """table[bucket(pos_k - pos_q)]: near offsets have a bucket each, far ones share one
    by the logarithm of the distance.

    Source: Raffel et al., arXiv:1910.10683, section 2.1; T5's published code, for both directions.
    """

    def __init__(self, table: Float[Array, "n c"], max_distance: int) -> None:
        """table [n, c]: c buckets per head; all offsets beyond max_distance share the last one.

        Raises ConfigError for sizes that leave no buckets.
        """
        bucket_starts(table.shape[-1], max_distance)
        self.table = nnx.Param(table)
        self.max_distance = max_distance

    @property
    def starts(self) -> tuple[int, ...]:
        """The first distance of each bucket of a side but the first."""
        return bucket_starts(self.table.shape[-1], self.max_distance)

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of one head; half of the buckets are for keys after the query."""
        offset = pos_k[None, :] - pos_q[:, None]
        distance = jnp.abs(offset)
        bucket = sum(
            ((distance >= start).astype(jnp.int32) for start in self.starts),
            start=jnp.where(offset > 0, self.table.shape[-1] // 2, 0),
        )
        return self.table[...][bucket].astype(jnp.float32)

    def arithmetic(self) -> StepBias:
        """The same numbers chosen one after the other, since a kernel cannot look them up."""
        numbers, side = jnp.unstack(self.table[...], axis=-1), self.table.shape[-1] // 2
        return StepBias(numbers[:side], numbers[side : 2 * side], self.starts)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The largest number of the buckets that a distance or any beyond it falls into."""
        return self.arithmetic().upper(distance)


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
        """Draw the table [n, num_buckets]; the defaults are T5's published values.

        Raises ConfigError for sizes that leave no buckets.
        """
        bucket_starts(num_buckets, max_distance)  # before a table of such a shape is drawn
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
    """The sum of two biases; of two scores, the second is a function of the first."""

    def __init__(self, first: Bias, second: Bias) -> None:
        """The biases may be of any classes."""
        self.first = first
        self.second = second

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The sum of both terms, [t, s] of one head."""
        return self.first(pos_q, pos_k) + self.second(pos_q, pos_k)

    def score(self, scores: HeadScores, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadScores:
        """The scores plus both terms; or after the first bias's score, then the second's."""
        if self.additive:
            return super().score(scores, pos_q, pos_k)
        return self.second.score(self.first.score(scores, pos_q, pos_k), pos_q, pos_k)

    @property
    def additive(self) -> bool:
        """Whether both biases add their terms and do nothing else."""
        return self.first.additive and self.second.additive

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The sum of both bounds; infinite where one of them is."""
        return self.first.upper(distance) + self.second.upper(distance)

    def upper_tile(self, queries: PositionRange, keys: PositionRange) -> Float[Array, "*any"]:
        """The sum of both bounds; infinite where one of them is."""
        return self.first.upper_tile(queries, keys) + self.second.upper_tile(queries, keys)

    def upper_score(
        self, largest: Float[Array, "*any"], queries: PositionRange, keys: PositionRange
    ) -> Float[Array, "*any"]:
        """The sum of the bounds; or the second's bound for scores up to the first's."""
        if self.additive:
            return super().upper_score(largest, queries, keys)
        between = self.first.upper_score(largest, queries, keys)
        if not self.second.additive:  # its bound may not hold below 0
            between = jnp.maximum(between, 0.0)
        return self.second.upper_score(between, queries, keys)

    def arithmetic(self) -> Bias:
        """The sum of both biases, each by arithmetic alone."""
        return SumBias(arithmetic_of(self.first), arithmetic_of(self.second))


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

    def rotate_query(self, q: Queries, pos: Positions) -> Queries:
        """Queries after the first scheme, then the second."""
        return self.second.rotate_query(self.first.rotate_query(q, pos), pos)

    def rotate_key(self, k: Queries, pos: Positions) -> Queries:
        """Keys after the first scheme, then the second."""
        return self.second.rotate_key(self.first.rotate_key(k, pos), pos)
