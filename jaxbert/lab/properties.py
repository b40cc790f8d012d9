"""What a position scheme does, each property as a function of the scheme that gives numbers.

A difference is that of two numbers as a share of the larger of the second and one: a mask's -1e9
hides no others. The largest of an array is given: 0 where both are equal.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxbert.model.attention.dense import attention_scores
from jaxbert.model.attention.tiles import tile_ranges
from jaxbert.model.position import Bias, Position, PositionRange, per_head

# The most positions that a table of a bias is made for.
TABLE = 256
# The largest score before a bias, where bounds are tried.
LARGEST = 3.0


class Sizes(NamedTuple):
    """The sizes on which a scheme is tried."""

    heads: int
    width: int  # of the states; a head has its share of it
    tokens: int


class Leaf(NamedTuple):
    """An array of a scheme."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    trained: bool  # an nnx.Param; else a constant


def leaves(scheme: Position) -> list[Leaf]:
    """The arrays that a scheme holds, by path."""

    def is_variable(value: Any) -> bool:
        return isinstance(value, nnx.Variable)

    found = jax.tree.leaves_with_path(scheme, is_leaf=is_variable)
    return [
        Leaf(
            jax.tree_util.keystr(path, simple=True, separator="."),
            tuple(leaf.shape),
            leaf.dtype.name,
            isinstance(leaf, nnx.Param),
        )
        for path, leaf in found
    ]


def difference(own: Any, other: Any) -> float:
    """The largest |own - other|, of numbers above one as a share of them; NaN where one is NaN."""
    own, other = (np.asarray(x, np.float64) for x in (own, other))
    return float((np.abs(own - other) / np.maximum(np.abs(other), 1.0)).max(initial=0.0))


def over(found: np.ndarray, bound: np.ndarray) -> float:
    """How far numbers exceed their bounds, which may be infinite."""
    finite = np.where(np.isinf(bound), found, bound)
    return difference(np.maximum(found, finite), finite)


def row(positions: Any) -> jax.Array:
    """Positions of one text, [1, t]."""
    return jnp.asarray(np.asarray(positions, np.int32))[None]


def drawn(sizes: Sizes) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Queries, keys and values [1, n, t, h] from a normal distribution."""
    shape = (3, 1, sizes.heads, sizes.tokens, sizes.width // sizes.heads)
    q, k, v = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(q), jnp.asarray(k), jnp.asarray(v)


# --- the bias ------------------------------------------------------------------------------------


class Heads(NamedTuple):
    """The bias of a scheme and the number of heads that it is for."""

    bias: Bias
    n: int

    def each(self, function: Callable[..., jax.Array], *more: Any) -> jax.Array:
        """function(head, ...) of every head, and of its part of further arrays, stacked."""
        return jax.vmap(function, axis_size=self.n)(per_head(self.bias, self.n), *more)

    def scores(self, scores: Any, queries: jax.Array, keys: jax.Array) -> np.ndarray:
        """What the heads make of scores [t, s] at positions [t] and [s]: [n, t, s]."""

        @jax.jit
        def compute(bias: Bias, scores: jax.Array) -> jax.Array:
            own = self._replace(bias=bias)
            return own.each(lambda head: head.score(scores, queries, keys))

        return np.asarray(compute(self.bias, jnp.asarray(scores)))

    def whole(self, positions: Any) -> np.ndarray:
        """The bias for every pair of positions, [n, t, s]: what it makes of zeros."""
        places = row(positions)[0]
        return self.scores(np.zeros(2 * places.shape, np.float32), places, places)

    def bounds(self, low: jax.Array, high: jax.Array) -> np.ndarray:
        """The bound of the scores between any two of the ranges of positions, [n, i, i]."""
        queries = PositionRange(low[:, None], high[:, None])
        keys = PositionRange(low[None, :], high[None, :])
        largest = jnp.full((len(low), len(low)), LARGEST, jnp.float32)

        @jax.jit
        def compute(bias: Bias) -> jax.Array:
            own = self._replace(bias=bias)
            return own.each(lambda head: head.upper_score(largest, queries, keys))

        return np.asarray(compute(self.bias))


def tile_difference(heads: Heads, tokens: int) -> float:
    """How far random scores with the bias on a tile are from that part of all of them."""
    positions = row(range(tokens))[0]
    scores = np.random.default_rng(4).normal(size=(tokens, tokens)).astype(np.float32)
    a, b = tokens // 3, tokens // 2
    table = heads.scores(scores, positions, positions)
    own = heads.scores(scores[a:, :b], positions[a:], positions[:b])
    return difference(own, table[:, a:, :b])


def upper_excess(heads: Heads, farthest: int) -> tuple[float, bool]:
    """How far a score exceeds the bound of its tile, and whether there is a bound at all.

    The positions lie close together and far apart, in tiles of one and of several.
    """
    steps = np.geomspace(1, max(1, farthest), TABLE // 4).astype(np.int64)
    positions = np.unique([0, *steps, *(farthest - steps)])
    positions = positions[positions >= 0].astype(np.int32)
    shape = (len(positions), len(positions))
    drawn = np.random.default_rng(5).uniform(-LARGEST, LARGEST, shape).astype(np.float32)
    place = row(positions)[0]
    excess, bounded = [], []
    for scores in (np.full(shape, LARGEST, np.float32), drawn):
        found = heads.scores(scores, place, place)
        for size in (1, 7):
            starts = np.arange(0, len(positions), size)
            ends = np.append(starts[1:], len(positions)) - 1
            bound = heads.bounds(place[starts], place[ends])
            most = np.maximum.reduceat(np.maximum.reduceat(found, starts, 1), starts, 2)
            excess.append(over(most, bound))
            bounded.append(np.isfinite(bound).any())
    return max(excess), any(map(bool, bounded))


def skipped(heads: Heads, sizes: Sizes, size: int) -> np.ndarray:
    """The share of the tiles of keys that attention leaves out, by head, for random q and k."""
    (q, k, _), tokens = drawn(sizes), sizes.tokens
    positions, segments = row(range(tokens))[0], jnp.ones(tokens, jnp.int32)

    @jax.jit
    def needed(bias: Bias, q: jax.Array, k: jax.Array) -> jax.Array:
        def one(head: Bias, q: jax.Array, k: jax.Array) -> jax.Array:
            return tile_ranges(q, k, head, positions, segments, size, size, 1e-7).total()

        return heads._replace(bias=bias).each(one, q, k)

    return 1 - np.asarray(needed(heads.bias, q[0], k[0])).sum(axis=1) / (-(-tokens // size)) ** 2


# --- the scheme ----------------------------------------------------------------------------------


class Effect(NamedTuple):
    """What a scheme does at some positions."""

    added: jax.Array  # to the states, [1, t, d]
    rotation: jax.Array  # queries and keys less what they were, [2, 1, n, t, h]
    scores: jax.Array  # [1, n, t, s]
    term: jax.Array  # what the bias makes of the scores, less what they were


@jax.jit
def effect(scheme: Position, x: jax.Array, q: jax.Array, k: jax.Array, pos: jax.Array) -> Effect:
    """What a scheme does to states x [1, t, d], queries and keys at positions [1, t]."""
    rotated = scheme.rotate_query(q, pos), scheme.rotate_key(k, pos)
    scores = attention_scores(*rotated, scheme.bias, pos)
    term = scores - attention_scores(*rotated, None, pos)
    both = jnp.stack([rotated[0] - q, rotated[1] - k])
    return Effect(scheme.embed(x, pos) - x, both, scores, term)


class Probe(NamedTuple):
    """A scheme, and the states, queries and keys on which its effect is seen."""

    scheme: Position
    x: jax.Array
    q: jax.Array
    k: jax.Array

    @classmethod
    def of(cls, scheme: Position, sizes: Sizes) -> "Probe":
        """Random ones of these sizes."""
        q, k, _ = drawn(sizes)
        x = np.random.default_rng(1).normal(size=(1, sizes.tokens, sizes.width))
        return cls(scheme, jnp.asarray(x.astype(np.float32)), q, k)

    def at(self, positions: Any) -> Effect:
        """The effect at these positions."""
        return effect(*self, row(positions))

    def change(self, positions: Any, others: Any) -> float:
        """How far states and scores at two rows of positions are from each other."""
        own, other = self.at(positions), self.at(others)
        return max(difference(own.added, other.added), difference(own.scores, other.scores))

    def places(self) -> list[str]:
        """Where the scheme acts: on states, queries and keys, scores."""
        found = self.at(range(self.q.shape[2]))
        names = {"states": found.added, "queries and keys": found.rotation, "scores": found.term}
        return [name for name, change in names.items() if np.any(np.asarray(change))]


def gradients(loss: Callable[[Any], Any], module: Any, under: str) -> dict[str, float]:
    """The norm of the gradient of each nnx.Param of a module whose path begins so, by path."""
    arrays, tree = jax.tree.flatten(module)
    chosen = {
        i: leaf.path
        for i, leaf in enumerate(leaves(module))
        if leaf.trained and leaf.path.startswith(under)
    }

    # All arrays are arguments: XLA would compute with constants while it compiles.
    def of_chosen(values: dict[int, jax.Array], arrays: list[jax.Array]) -> Any:
        return loss(jax.tree.unflatten(tree, [values.get(i, x) for i, x in enumerate(arrays)]))

    found = jax.jit(jax.grad(of_chosen))({i: arrays[i] for i in chosen}, arrays)
    return {path: float(np.linalg.norm(np.asarray(found[i]).ravel())) for i, path in chosen.items()}


@functools.cache
def kernels() -> dict[str, Any]:
    """The tiled implementations, in tiles so small that a short text has several."""
    from jaxbert.model.attention.blockwise import Blockwise
    from jaxbert.model.attention.gpu import Gpu
    from jaxbert.model.attention.tpu import Tpu

    return {
        "blockwise": Blockwise(queries=32, keys=16),
        "TPU kernel": Tpu(queries=16, keys=32, interpret=True),
        "GPU kernel": Gpu(queries=16, keys=16, interpret=True),
    }


def context(attention: Any, scheme: Position, sizes: Sizes) -> np.ndarray:
    """The context of random q, k and v under a scheme; NotImplementedError where refused."""
    segments, positions = jnp.ones((1, sizes.tokens), jnp.int32), row(range(sizes.tokens))

    @jax.jit
    def compute(scheme: Position, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        rotated = scheme.rotate_query(q, positions), scheme.rotate_key(k, positions)
        return attention(*rotated, v, scheme.bias, positions, segments)

    return np.asarray(compute(scheme, *drawn(sizes)))
