"""Losses as functions of arrays: float32 whatever the inputs are, one number for a batch.

Beside the letters of axes.py: c candidates of a row, k hard negatives of a row, p masked places.
Shapes are checked when a loss is called, also in a trace, where no number is known yet.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from jaxbert.arguments import integer
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.model.head import SMALLEST_NORM

Vectors = Float[Array, "b d"]
Scalar = Float[Array, ""]

# --- what is checked ----------------------------------------------------------------------------


def floats(value: Any, name: str, axes: str) -> jax.Array:
    """The value in float32; axes names its axes. Raises InputError and InputTypeError."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputTypeError(f"{name} has dtype {array.dtype}; pass floats")
    if array.ndim != len(axes.split()) or array.size == 0:
        raise InputError(f"{name} has shape {array.shape}; pass [{', '.join(axes.split())}]")
    return array.astype(jnp.float32)


def check_same(name: str, shape: tuple[int, ...], other: str, expected: tuple[int, ...]) -> None:
    """Raise InputError unless both shapes, or the parts of shapes, are the same."""
    if shape != expected:
        raise InputError(f"{name} has shape {shape} where {other} has {expected}; make them equal")


def check_positive(value: Any, name: str) -> None:
    """Raise InputError for a number that is not positive and finite; a traced one passes."""
    if isinstance(value, int | float) and not 0 < value < math.inf:
        raise InputError(f"{name} is {shown(value)}; it must be positive and finite")


def two(a: Any, b: Any) -> tuple[Vectors, Vectors]:
    """Vectors a and b [b, d] in float32, of which row i belongs to row i."""
    first, second = floats(a, "a", "b d"), floats(b, "b", "b d")
    check_same("b", second.shape, "a", first.shape)
    return first, second


# --- similarities -------------------------------------------------------------------------------


def unit(x: Float[Array, "*any d"]) -> Float[Array, "*any d"]:
    """x / max(||x||, 1e-12) over the last axis.

    Differs: the gradient of `normalize` (model/head.py) is NaN at zero, for it takes a root there.
    """
    square = jnp.square(x).sum(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, SMALLEST_NORM**2))


def cosine_similarity(a: Vectors, b: Float[Array, "c d"]) -> Float[Array, "b c"]:
    """The cosine of every row of a with every row of b."""
    first, second = floats(a, "a", "b d"), floats(b, "b", "c d")
    check_same("a vector of b", second.shape[1:], "one of a", first.shape[1:])
    return jnp.einsum("bd,cd->bc", unit(first), unit(second), precision=Precision.HIGHEST)


def row_similarity(a: Vectors, b: Vectors) -> Float[Array, " b"]:
    """The cosine of each row of a with the same row of b."""
    first, second = two(a, b)
    return (unit(first) * unit(second)).sum(axis=-1)


# --- losses of vectors --------------------------------------------------------------------------


def info_nce(
    a: Vectors,
    b: Vectors,
    negatives: Float[Array, "b k d"] | None = None,
    temperature: float = 0.05,
) -> Scalar:
    """The mean over rows i of -log softmax_j(cos(a[i], c[j]) / temperature) at c[j] = b[i].

    The candidates c of every row are all of b and the negatives of all rows: b + b k vectors. One
    direction: b is not asked for its a.
    Source: arXiv:1807.03748, section 2.3; the same as sentence-transformers'
    MultipleNegativesRankingLoss with its defaults, of scale 1 / temperature.
    """
    check_positive(temperature, "temperature")
    first, second = two(a, b)
    candidates = second
    if negatives is not None:
        hard = floats(negatives, "negatives", "b k d")
        check_same("negatives", hard.shape[::2], "a", first.shape)
        candidates = jnp.concatenate([second, hard.reshape(-1, hard.shape[-1])])
    scores = cosine_similarity(first, candidates) / temperature
    return (jax.nn.logsumexp(scores, axis=1) - jnp.diagonal(scores)).mean()


def cosent(
    similarity: Float[Array, " b"], scores: Float[Array, " b"], scale: float = 20.0
) -> Scalar:
    """log(1 + sum of exp(scale (similarity[j] - similarity[i]))) over scores[i] > scores[j].

    Only the order of the scores counts.
    Source: sentence-transformers' CoSENTLoss; Huang et al., doi:10.1109/TASLP.2024.3402087.
    """
    check_positive(scale, "scale")
    own, wanted = floats(similarity, "similarity", "b"), floats(scores, "scores", "b")
    check_same("scores", wanted.shape, "similarity", own.shape)
    terms = scale * (own[None, :] - own[:, None])
    counted = wanted[:, None] > wanted[None, :]
    terms = jnp.where(counted, terms, -jnp.inf).reshape(-1)
    return jax.nn.logsumexp(jnp.concatenate([jnp.zeros((1,), jnp.float32), terms]))


def cosine(a: Vectors, b: Vectors) -> Scalar:
    """The mean over rows of 1 - cos(a[i], b[i])."""
    return (1.0 - row_similarity(a, b)).mean()


def mse(a: Vectors, b: Vectors) -> Scalar:
    """The mean of (a - b)^2 over rows and features."""
    first, second = two(a, b)
    return jnp.square(first - second).mean()


def kl(student: Float[Array, "b c"], teacher: Float[Array, "b c"], temperature: float) -> Scalar:
    """temperature^2 times the mean over rows of KL(teacher || student), from similarities.

    The probabilities of a row are softmax(similarity / temperature) over its candidates; the factor
    keeps gradients of one size.
    Source: Hinton et al., arXiv:1503.02531, section 2; sentence-transformers' DistillKLDivLoss.
    """
    check_positive(temperature, "temperature")
    own, wanted = floats(student, "student", "b c"), floats(teacher, "teacher", "b c")
    check_same("teacher", wanted.shape, "student", own.shape)
    if own.shape[1] == 1:
        raise InputError("student has one candidate in a row, whose probability is 1; pass more")
    log_own = jax.nn.log_softmax(own / temperature, axis=1)
    log_wanted = jax.nn.log_softmax(wanted / temperature, axis=1)
    terms = jnp.exp(log_wanted) * (log_wanted - log_own)
    return temperature**2 * terms.sum(axis=1).mean()


# --- losses of tokens ---------------------------------------------------------------------------


def weighted_mean(values: jax.Array, weights: jax.Array) -> Scalar:
    """sum(values weights) / sum(weights); zero where all weights are zero."""
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1.0)


def at_places(
    logits: Any, ids: Any, weights: Any
) -> tuple[Float[Array, "b p v"], Int[Array, "b p"], Float[Array, "b p"]]:
    """The checked arguments of the two functions below; weights None are ones."""
    own, wanted = floats(logits, "logits", "b p v"), jnp.asarray(ids)
    if not jnp.issubdtype(wanted.dtype, jnp.integer):
        raise InputTypeError(f"ids has dtype {wanted.dtype}; pass the integers of tokens")
    check_same("ids", wanted.shape, "logits without its last axis", own.shape[:2])
    if weights is None:
        return own, wanted, jnp.ones(wanted.shape, jnp.float32)
    check_same("weights", jnp.shape(weights), "ids", wanted.shape)
    return own, wanted, floats(weights, "weights", "b p")


def masked_lm(
    logits: Float[Array, "b p v"],
    ids: Int[Array, "b p"],
    weights: Float[Array, "b p"] | None = None,
) -> Scalar:
    """The mean over places of -log softmax(logits)[id], each counted by its weight, 0 or 1.

    An id outside the vocabulary gives NaN.
    Source: arXiv:1810.04805, section 3.1.
    """
    own, wanted, weight = at_places(logits, ids, weights)
    # A negative number would count from the end; torch's -100 among them.
    index = jnp.where(wanted < 0, own.shape[-1], wanted)[..., None]
    at_id = jnp.take_along_axis(own, index, axis=-1, mode="fill")[..., 0]
    return weighted_mean(jax.nn.logsumexp(own, axis=-1) - at_id, weight)


def accuracy(
    logits: Float[Array, "b p v"],
    ids: Int[Array, "b p"],
    weights: Float[Array, "b p"] | None = None,
) -> Scalar:
    """The share of places at which the id has the largest logit, each counted by its weight."""
    own, wanted, weight = at_places(logits, ids, weights)
    right = jnp.argmax(own, axis=-1) == wanted
    return weighted_mean(right.astype(jnp.float32), weight)


# --- a loss of losses ---------------------------------------------------------------------------


def matryoshka(
    loss: Callable[..., Scalar], dims: Sequence[int], weights: Sequence[float] | None = None
) -> Callable[..., Scalar]:
    """A loss: the sum over dims of weight times loss(*vectors[..., :dim], **others).

    Arguments by position are vectors [..., d], or None, and are cut to their first dims; those by
    name, such as temperature or scores, are passed as they are. weights None are ones.
    Differs: sentence-transformers divides the cut vectors of the model by their lengths, which
    changes nothing for a loss of cosines.
    Source: Kusupati et al., arXiv:2205.13147, equation 1.
    """
    if not isinstance(dims, list | tuple) or not dims:
        raise InputTypeError(f"dims is {shown(dims)}; pass widths, such as (384, 192, 96)")
    widths = [integer(dim, "a number of dims", 1) for dim in dims]
    if len(set(widths)) < len(widths):
        raise InputError(f"dims is {shown(dims)}, which has a width twice; weigh it instead")
    factors = [1.0] * len(widths) if weights is None else [float(weight) for weight in weights]
    if len(factors) != len(widths):
        raise InputError(f"there are {len(factors)} weights for {len(widths)} dims; pass one each")

    def cut(vectors: Any, dim: int) -> Any:
        return None if vectors is None else vectors[..., :dim]

    def of_cut(*vectors: Any, **others: Any) -> Scalar:
        given = [jnp.shape(x)[-1] for x in vectors if x is not None]
        if given and max(widths) > min(given):
            raise InputError(f"dims has {max(widths)}, but the vectors have {min(given)} features")
        losses = [loss(*(cut(x, dim) for x in vectors), **others) for dim in widths]
        return sum(
            (factor * value for factor, value in zip(factors, losses, strict=True)),
            jnp.zeros((), jnp.float32),
        )

    return of_cut
