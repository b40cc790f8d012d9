"""How positions enter an encoder: added to the states, rotating q and k, added to the scores.

A scheme is an object passed to the encoder. It gets positions, never a length: the same lines run
on a whole row, on a tile of it and on packed texts. Write your own by subclassing Position (and
Bias); notes/03-positions.md is the tutorial.
"""

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxbert.model.axes import Hidden, Positions, Queries
from jaxbert.model.layers import lookup
from jaxbert.model.module import Module

QueryPositions = Int[Array, "t"]
KeyPositions = Int[Array, "s"]
HeadBias = Float[Array, "t s"]
HeadScores = Float[Array, "t s"]

# Positions are clipped to this before their difference is taken, which then fits 32 bits.
FAR = 2**30 - 1


class PositionRange(NamedTuple):
    """The smallest and the largest position of a tile; of several tiles, as arrays.

    Those of a tile of padding alone are meaningless, and so is a bound for it.
    """

    low: Int[Array, "*i"]
    high: Int[Array, "*i"]


def distance_between(queries: PositionRange, keys: PositionRange) -> Int[Array, "*any"]:
    """The smallest distance between a query and a key, 0 where their ranges overlap.

    The ranges broadcast against each other. Clipping positions only brings them closer.
    """
    low_q, high_q, low_k, high_k = (jnp.clip(x, -FAR, FAR) for x in (*queries, *keys))
    return jnp.maximum(0, jnp.maximum(low_k - high_q, low_q - high_k))


class Shared(nnx.Param[jax.Array]):
    """An array of a Bias that all heads share and that has no axis n, as FIRE's hidden layer."""


class Bias(Module):
    """A term of the scores: bias(pos_q, pos_k) -> [t, s], float32, written for one head.

    Every array it holds has the leading axis n, unless it is Shared; attention calls it once per
    head, on arrays without that axis. A subclass defines the term, or `score` for another function
    of the scores.
    """

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term for queries at pos_q and keys at pos_k, added after the division by sqrt(h)."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(pos_q, pos_k)")

    def score(self, scores: HeadScores, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadScores:
        """What softmax gets of scores = q k^T / sqrt(h) of one head, in float32: scores + term.

        Each of the [t, s] numbers depends on its own score and two positions alone. A bias that
        defines a score of its own needs no term.
        """
        return scores + self(pos_q, pos_k).astype(jnp.float32)

    @property
    def additive(self) -> bool:
        """Whether score adds the term and does nothing else, so that `upper` bounds tiles."""
        return type(self).score is Bias.score

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """An upper bound of all terms at this distance or farther; attention skips by it."""
        return jnp.full(distance.shape, jnp.inf)  # no bound is known, so nothing is skipped

    def upper_tile(self, queries: PositionRange, keys: PositionRange) -> Float[Array, "*any"]:
        """An upper bound of all terms between queries and keys in these ranges, which broadcast.

        It is upper of their distance, unless the bias depends on more than the distance. A subclass
        that changes the terms changes its bounds too.
        """
        return self.upper(distance_between(queries, keys))

    def upper_score(
        self, largest: Float[Array, "*any"], queries: PositionRange, keys: PositionRange
    ) -> Float[Array, "*any"]:
        """An upper bound of score for scores of at most `largest` >= 0 between these ranges.

        A bias with a score of its own has none, and all tiles are computed, unless it defines one;
        by that it also says that its score never falls when q k^T / sqrt(h) rises.
        """
        bound = largest + self.upper_tile(queries, keys)
        return bound if self.additive else jnp.full_like(bound, jnp.inf)

    def arithmetic(self) -> "Bias":
        """The same terms by arithmetic on tiles alone, which is all that a kernel can trace.

        It is the bias itself, unless that looks something up and knows another way. Called on all
        heads at once, and without gradients; a subclass that changes the terms changes this too.
        """
        return self


def is_shared(leaf: Any) -> bool:
    """Whether a part of a bias is an array that all heads share."""
    return isinstance(leaf, Shared)


def per_head(bias: Bias, n: int) -> Bias:
    """The bias with n copies of what is Shared, so that every array has the leading axis n.

    The gradient of what is Shared is therefore the sum of those of all heads.
    """

    def copies(leaf: Any) -> Any:
        if not is_shared(leaf):
            return leaf
        return nnx.Param(jnp.broadcast_to(leaf[...], (n, *leaf.shape)))

    return jax.tree.map(copies, bias, is_leaf=is_shared)


def own_arrays(bias: Bias | None) -> list[jax.Array]:
    """The arrays of a bias that have the leading axis n."""
    return [x for x in jax.tree.leaves(bias, is_leaf=is_shared) if not is_shared(x)]


def arithmetic_of(bias: Bias) -> Bias:
    """bias.arithmetic(); NotImplementedError where a subclass changed the scores and forgot it."""
    plain = bias.arithmetic()
    if plain.additive and not bias.additive:
        raise NotImplementedError(
            f"{type(bias).__name__} has a score of its own, and its arithmetic() is a "
            f"{type(plain).__name__}, which has none; define arithmetic() too"
        )
    return plain


class Position(Module):
    """The base of every scheme, which uses no positions: it changes neither states nor scores."""

    bias: ClassVar[Bias | None] = None  # or an instance's field or property
    limit: ClassVar[int | None] = None  # how many positions the scheme has; None: no limit

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """The states [b, t, d] before the first norm, from those without positions."""
        return x

    def rotate(self, qk: Queries, pos: Positions) -> Queries:
        """The queries or keys [b, n, t, h] from those without positions."""
        return qk

    def rotate_query(self, q: Queries, pos: Positions) -> Queries:
        """The queries [b, n, t, h]: rotate(q), unless a scheme treats them otherwise than keys."""
        return self.rotate(q, pos)

    def rotate_key(self, k: Queries, pos: Positions) -> Queries:
        """The keys [b, n, s, h]: rotate(k), unless a scheme treats them otherwise than queries."""
        return self.rotate(k, pos)


class Learned(Position):
    """x + table[pos]: one learned vector per position (BERT, arXiv:1810.04805, section 3)."""

    def __init__(self, max_positions: int, hidden_size: int, *, rngs: nnx.Rngs, std: float) -> None:
        """Draw the table [max_positions, d] from a normal distribution of width std."""
        shape = (max_positions, hidden_size)
        self.table = nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))

    @property
    def limit(self) -> int:  # type: ignore[override]
        """The number of rows of the table; a longer text is refused."""
        return self.table.shape[0]

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """x plus the vector of each position; NaN for a position beyond the table."""
        return x + lookup(self.table[...], pos).astype(x.dtype)


def alibi_slopes(num_heads: int) -> tuple[float, ...]:
    """2^(-8(i+1)/n) for n a power of two; else those of the power p below, and every other of 2p.

    Source: Press et al., arXiv:2108.12409, section 3 and the authors' code for other head counts.
    """
    power = 2 ** int(math.log2(num_heads))
    exact = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(num_heads - power)]
    return (*exact, *between)


class AlibiBias(Bias):
    """-slope |pos_q - pos_k|: symmetric and without a limit; one slope per head."""

    def __init__(self, slopes: Float[Array, " n"]) -> None:
        """slopes [n] are positive, one for each head."""
        self.slopes = slopes

    def __call__(self, pos_q: QueryPositions, pos_k: KeyPositions) -> HeadBias:
        """The term [t, s] of every pair of one head, in float32."""
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        return -self.slopes * distance.astype(jnp.float32)

    def upper(self, distance: Int[Array, "*any"]) -> Float[Array, "*any"]:
        """The term itself, since it never rises with the distance."""
        return -self.slopes * distance.astype(jnp.float32)


class Alibi(Position):
    """Symmetric ALiBi (arXiv:2108.12409; both sides: arXiv:2310.19923, section 3.1); no weights.

    Differs: the published ALiBi is causal; an encoder needs the distance, |t - s|.
    """

    def __init__(self, num_heads: int) -> None:
        """The slopes depend on the number of heads alone, which may be any."""
        self.num_heads = num_heads

    @property
    def bias(self) -> Bias:  # type: ignore[override]
        """The bias, computed from positions wherever it is needed; never a table."""
        return AlibiBias(jnp.asarray(alibi_slopes(self.num_heads), jnp.float32))
