"""The interface of attention implementations: a name, the memory of the scores, and a call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.errors import InputError, InputTypeError
from jaxbert.model.attention.dense import (
    attention_scores,
    dense_attention,
    log_sum_exp,
    unnormalized_weights,
    weighted_mean,
)
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias, Position, own_arrays

# attention(q, k, v, bias, positions, segments): an implementation, or a user's function.
Attend = Callable[..., Queries]


@runtime_checkable
class Attention(Protocol):
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0.

    dense.py defines it; every implementation is tested against that.
    """

    @property
    def name(self) -> str:
        """The name in the command, in metadata and in messages."""

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes that the scores take at one time; bias says whether there is one."""

    def __call__(self, *arguments: Any) -> Queries:
        """The context of q, k, v [b, n, t, h], bias, positions [#b, t] and segments [b, t]."""


@dataclass(frozen=True)
class DenseAttention:
    """dense_attention as an implementation, with a name and its memory."""

    name: ClassVar[str] = "dense"

    def __call__(
        self,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> Queries:
        """The context [b, n, t, h]; arguments as in dense_attention."""
        return dense_attention(q, k, v, bias, positions, segments)

    def with_lse(
        self,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> tuple[Queries, Lse]:
        """The context, and the log sum exp [b, n, t] of the scores; arguments as in a call."""
        scores = attention_scores(q, k, bias, positions)
        context = weighted_mean(unnormalized_weights(scores, segments), v).astype(q.dtype)
        return context, log_sum_exp(scores, segments)

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes of float32 scores [b, n, t, t], a mask [b, 1, t, t] and the bias [n, t, t]."""
        return 4 * (b * (n + 1) + (n if bias else 0)) * t * t


dense = DenseAttention()


def name_of(attention: Any) -> str:
    """The name of an implementation; module and qualified name of a user's function or class."""
    if isinstance(attention, Attention):
        return attention.name
    named = attention if hasattr(attention, "__qualname__") else type(attention)
    return f"{named.__module__}.{named.__qualname__}"


def score_bytes(attention: Any, b: int, n: int, t: int, bias: bool) -> int:
    """Bytes of the scores of an implementation; 0 for a user's function."""
    return attention.score_bytes(b, n, t, bias) if isinstance(attention, Attention) else 0


def check_arguments(q: Any, k: Any, v: Any, bias: Any, positions: Any, segments: Any) -> None:
    """Check types, dtypes and shapes of the arguments. Raises InputTypeError and InputError."""
    arrays = {"q": q, "k": k, "v": v, "positions": positions, "segments": segments}
    for name, value in arrays.items():
        if not isinstance(value, jax.Array | np.ndarray):
            raise InputTypeError(f"{name} is a {type(value).__name__}; pass an array")
        kind: Any = jnp.floating if name in "qkv" else jnp.integer
        if not jnp.issubdtype(value.dtype, kind):
            raise InputTypeError(f"{name} has dtype {value.dtype}; pass {kind.__name__} numbers")
    if q.ndim != 4 or 0 in q.shape[1:] or not q.shape == k.shape == v.shape:
        raise InputError(
            f"q, k and v have the shapes {q.shape}, {k.shape} and {v.shape}; pass [b, n, t, h] each"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise InputTypeError(f"q, k and v are {q.dtype}, {k.dtype} and {v.dtype}; pass one dtype")
    rows = (q.shape[0], q.shape[2])
    if segments.shape != rows or positions.shape not in (rows, (1, rows[1])):
        raise InputError(
            f"positions and segments have the shapes {positions.shape} and {segments.shape}; pass "
            f"[1 or b, t] and [b, t], where [b, t] is {rows}"
        )
    if bias is not None and not isinstance(bias, Bias):
        raise InputTypeError(f"bias is a {type(bias).__name__}; pass a jaxbert.Bias or None")


def check_heads(scheme: Position, num_heads: int) -> None:
    """Refuse a bias for another number of heads, since an axis of 1 would broadcast silently."""
    for leaf in own_arrays(scheme.bias):
        if leaf.ndim == 0 or leaf.shape[0] != num_heads:
            raise InputError(
                f"a bias of {type(scheme).__name__} has an array of shape {leaf.shape}; its first "
                f"axis must be the {num_heads} heads, unless it is Shared"
            )
