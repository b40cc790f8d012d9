"""How similar vectors are, on the device: [q, d] and [c, d] -> [q, c], larger for more similar.

The corpus comes a piece at a time, and a piece is prepared once for all queries.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import Precision

from jaxbert.model.head import SMALLEST_NORM

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]


class Comparison(NamedTuple):
    """The steps of a similarity; each is traced inside a jitted function."""

    prepare: Callable[[jax.Array], jax.Array]  # of queries, and of a piece of the corpus
    compare: Callable[[jax.Array, jax.Array], jax.Array]


def unchanged(x: jax.Array) -> jax.Array:
    """The vectors, as they are."""
    return x


def unit(x: jax.Array) -> jax.Array:
    """x / ||x|| in float32; a zero vector stays zero.

    A vector is divided by its largest component first, so that no square leaves float32.
    """
    largest = jnp.abs(x).max(axis=-1, keepdims=True)
    x = x / jnp.where(largest > 0, largest, 1.0)
    norm = jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True))
    return x / jnp.maximum(norm, SMALLEST_NORM)


def dot(q: jax.Array, c: jax.Array) -> jax.Array:
    """q . c, multiplied in float32 on every device."""
    return jnp.einsum("qd,cd->qc", q, c, precision=Precision.HIGHEST)


def cosine(q: jax.Array, c: jax.Array) -> jax.Array:
    """The dot product of vectors of length one, which rounding may put beyond 1."""
    return jnp.clip(dot(q, c), -1.0, 1.0)


def euclidean(q: jax.Array, c: jax.Array) -> jax.Array:
    """-||q - c||, from the differences: products of large vectors would lose small distances."""
    return -jnp.sqrt(jnp.square(q[:, None, :] - c[None, :, :]).sum(axis=-1))


def manhattan(q: jax.Array, c: jax.Array) -> jax.Array:
    """-sum |q - c| over the features."""
    return -jnp.abs(q[:, None, :] - c[None, :, :]).sum(axis=-1)


def signs(q: jax.Array, c: jax.Array) -> jax.Array:
    """d - 2 (differing bits) of bits packed in bytes: the dot product of vectors of -1 and 1."""
    differing = jax.lax.population_count(q[:, None, :] ^ c[None, :, :])
    bits = 8 * q.shape[1] - 2 * differing.astype(jnp.int32).sum(axis=-1)
    return bits.astype(jnp.float32)


def plus_minus(x: jax.Array) -> jax.Array:
    """The signs of bits packed in bytes, [n, 8 d] of -1 and 1: their products are `signs`."""
    return 2.0 * jnp.unpackbits(x, axis=-1).astype(jnp.float32) - 1.0


COMPARISONS: dict[str, Comparison] = {
    "cosine": Comparison(unit, cosine),
    "dot": Comparison(unchanged, dot),
    "euclidean": Comparison(unchanged, euclidean),
    "manhattan": Comparison(unchanged, manhattan),
    "bits": Comparison(unchanged, signs),
    "bits, by products": Comparison(plus_minus, dot),
}


def best(scores: jax.Array, indices: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k largest of [q, c] and their indices; of equal scores the first ones.

    Differs: jax.lax.top_k alone puts 0.0 before -0.0, which are equal.
    """
    scores = jnp.where(scores == 0, 0.0, scores)
    values, places = jax.lax.top_k(scores, k)
    return values, jnp.take_along_axis(indices, places, axis=1)


def prepared(kind: str, x: Any) -> jax.Array:
    """Vectors on the device, made ready once for all that they are compared with."""
    x = jnp.asarray(x)
    return x if COMPARISONS[kind].prepare is unchanged else _prepare(kind, x)


def merged(
    kind: str, found: tuple[jax.Array, jax.Array], q: jax.Array, c: jax.Array, first: int, rows: int
) -> tuple[jax.Array, jax.Array]:
    """The best [q, k] so far and of a piece, whose first `rows` are rows first, first + 1 ..."""
    return _merge(kind, found, q, c, jnp.int32(first), jnp.int32(rows))


@jax.jit(static_argnums=0)
def _prepare(kind: str, x: jax.Array) -> jax.Array:
    """The vectors that `prepared` gives."""
    return COMPARISONS[kind].prepare(x)


@jax.jit(static_argnums=0)
def _merge(
    kind: str,
    found: tuple[jax.Array, jax.Array],
    q: jax.Array,
    c: jax.Array,
    first: jax.Array,
    rows: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The answer of `merged`; earlier rows stand first, so that ties keep the lower index."""
    scores, k = COMPARISONS[kind].compare(q, c), found[0].shape[1]
    place = jnp.arange(c.shape[0], dtype=jnp.int32)
    # What is not finite comes out on top, to be refused; filled rows of the piece never do. To look
    # at the vectors themselves would take as long as a product with a hundred queries.
    scores = jnp.where(jnp.isfinite(scores), scores, jnp.inf)
    scores = jnp.where(place[None, :] < rows, scores, -jnp.inf)
    indices = jnp.broadcast_to(place[None, :] + first, scores.shape)
    own = best(scores, indices, min(k, c.shape[0]))
    together = [jnp.concatenate(pair, axis=1) for pair in zip(found, own, strict=True)]
    return best(together[0], together[1], k)
