"""Vectors of tokens: in fewer bits, and compared by MaxSim.

Source: Khattab and Zaharia, arXiv:2004.12832, section 3.3.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision as Digits

from jaxbert.arguments import array, choice
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.ladder import bucket
from jaxbert.inference.quantise import quantize_embeddings
from jaxbert.process.backend import computing

TokenPrecision = Literal["float32", "float16", "int8", "ubinary"]
# The int8 of 1.0: components of unit vectors lie between -1 and 1.
ONE = 127
# Document tokens that are compared at a time with one query, and buckets of lengths to a doubling:
# few shapes, for each is compiled.
TOKENS = 4096
STEPS = 2


def check_token_precision(precision: Any) -> TokenPrecision:
    """The precision, if it is one; else InputError."""
    choice(precision, "precision", get_args(TokenPrecision))
    return precision


def compressed(vectors: np.ndarray, precision: TokenPrecision) -> np.ndarray:
    """Unit vectors [t, w] as float32, float16, int8 round(127 x), or ubinary: a bit for x > 0.

    One scale for all: a dot product in int8 is that of the vectors times 127^2, whatever texts
    they are of. ubinary has [t, ceil(w / 8)].
    """
    if precision == "int8":
        return np.rint(vectors * np.float32(ONE)).astype(np.int8)
    if precision == "ubinary":
        return quantize_embeddings(vectors, "ubinary")
    return vectors.astype(precision, copy=False)


def token_lists(value: Any, name: str) -> list[np.ndarray]:
    """Arrays [t_i, w] in float32, from a list of them, from one, or from an array [n, t, w].

    int8 is divided by 127. Raises InputTypeError and InputError.
    """
    if isinstance(value, str | bytes | dict) or not isinstance(value, Iterable):
        raise InputTypeError(
            f"{name} is a {type(value).__name__}; pass arrays [tokens, width], as encode_query and "
            "encode_document give them"
        )
    try:
        items: Sequence[Any] = list(value)
    except Exception as error:  # an array without axes, or what an iterator raises
        raise InputTypeError(f"{name} is no list of arrays; pass arrays [tokens, width]") from error
    if getattr(value, "ndim", None) == 2:
        items = [value]
    return [as_floats(item, f"item {i} of {name}") for i, item in enumerate(items)]


def as_floats(value: Any, name: str) -> np.ndarray:
    """One array [t, w] in float32, whose numbers are finite."""
    given = array(value, name)
    if given.ndim != 2:
        raise InputError(f"{name} has shape {given.shape}; pass [tokens, width]")
    if given.dtype == np.int8:
        return given.astype(np.float32) / np.float32(ONE)
    if given.dtype.kind in "iub":
        raise InputError(
            f"{name} is {given.dtype}, which MaxSim cannot compare; pass vectors in float32, "
            "float16 or int8"
        )
    with np.errstate(over="ignore"):
        vectors = given.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise InputError(f"{name} holds a number that is not finite in float32; leave it out")
    return vectors


def maxsim(queries: Any, documents: Any, mean: bool = False) -> np.ndarray:
    """[q, d] in float32: sum over query tokens of the largest dot product with a document token.

    mean divides by the number of query tokens. A query without tokens has 0, else a document
    without tokens has -inf. The bits of a score depend on its own query and document alone.
    Differs: sentence-transformers gives -1e9 for a document without tokens.
    """
    asked, read = token_lists(queries, "queries"), token_lists(documents, "documents")
    widths = {x.shape[1] for x in (*asked, *read)}
    if len(widths) > 1:
        raise InputError(
            f"vectors of width {' and '.join(map(str, sorted(widths)))} cannot be compared"
        )
    scores = np.zeros((len(asked), len(read)), np.float32)
    by_length: dict[int, list[int]] = {}
    for i, document in enumerate(read):
        by_length.setdefault(bucket(len(document), STEPS), []).append(i)
    with computing():
        # Queries are few and short, and wait on the device.
        padded = [padded_to([x], bucket(len(x), STEPS), 1) for x in asked]
        ready = [(jnp.asarray(x[0]), jnp.asarray(there[0])) for x, there in padded]
        for length, members in by_length.items():
            rows = max(1, TOKENS // length)
            for start in range(0, len(members), rows):
                some = members[start : start + rows]
                block = [jnp.asarray(x) for x in padded_to([read[i] for i in some], length, rows)]
                for i, query in enumerate(ready):
                    scores[i, some] = np.asarray(_maxsim(*query, *block))[: len(some)]
    if mean:
        counts = np.array([[max(len(x), 1)] for x in asked], np.float32).reshape(-1, 1)
        scores = scores / counts
    return scores


def padded_to(
    vectors: Sequence[np.ndarray], length: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Arrays [t_i, w] in one [rows, length, w], and where it has tokens [rows, length]."""
    x = np.zeros((rows, length, vectors[0].shape[1]), np.float32)
    there = np.zeros((rows, length), bool)
    for row, own in enumerate(vectors):
        x[row, : len(own)], there[row, : len(own)] = own, True
    return x, there


@jax.jit
def _maxsim(query: jax.Array, asks: jax.Array, documents: jax.Array, there: jax.Array) -> jax.Array:
    """The scores [d] of a query [t, w] with tokens where asks [t], and documents [d, s, w]."""
    products = jnp.einsum("tw,dsw->dts", query, documents, precision=Digits.HIGHEST)
    # Padding would win with a product of 0 where those of all tokens are negative.
    best = jnp.where(there[:, None, :], products, -jnp.inf).max(axis=-1)
    return jnp.where(asks[None, :], best, 0.0).sum(axis=-1)
