"""Attention for training on a CPU: one row of texts at a time, all heads of it together.

The scores of a row, [n, t, s], stay in the caches, and the backward pass has products of three axes
alone, whose factors are in the order that a CPU multiplies fastest: it computes the scores as
[n, s, t] again, and of what has to be transposed it transposes what has h features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Int

from jaxbert.model.attention.backward import differentiable, floating
from jaxbert.model.attention.base import DenseAttention
from jaxbert.model.attention.dense import (
    LOWEST,
    NO_KEYS,
    largest_score,
    product,
    softmax_denominator,
)
from jaxbert.model.attention.online import tile_mask, vary_together
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias, per_head

RowScores = Float[Array, "n t s"]
# Not an einsum, which may exchange the factors.
products = partial(jnp.matmul, precision=Precision.HIGHEST, preferred_element_type=jnp.float32)


def transposed(x: Float[Array, "n i j"]) -> Float[Array, "n j i"]:
    """Every matrix transposed."""
    return x.swapaxes(1, 2)


def by_row(
    function: Callable[..., Any],
    bias: Bias | None,
    positions: Positions,
    segments: Segments,
    *arrays: jax.Array,
) -> Any:
    """function(bias, positions, segments, *arrays) for each row in turn, stacked: [b, ...]."""
    rows = (jnp.broadcast_to(positions, segments.shape), segments, *arrays)
    return jax.lax.map(lambda row: function(bias, *row), rows)


def scores_of(bias: Bias | None, qk: RowScores, positions: Int[Array, " t"]) -> RowScores:
    """What bias.score makes of q k^T / sqrt(h), of every head."""
    if bias is None:
        return qk
    return jax.vmap(lambda head, own: head.score(own, positions, positions))(bias, qk)


def forward(
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    q: Float[Array, "n t h"],
    k: Float[Array, "n s h"],
    v: Float[Array, "n s h"],
) -> tuple[Float[Array, "n t h"], Float[Array, "n t"]]:
    """The context of a row, and the log sum exp of its scores; as dense_attention computes them."""
    qk = product("nth,nsh->nts", q, k) * (q.shape[-1] ** -0.5)
    mask = jnp.where(tile_mask(segments, segments), 0.0, LOWEST)
    scores = scores_of(bias, qk, positions) + mask[None]
    top = largest_score(scores)
    weights = jnp.exp(scores - top)
    total = softmax_denominator(weights)
    context = product("nts,nsh->nth", weights.astype(v.dtype), v) / total
    return context.astype(q.dtype), (top + jnp.log(total))[..., 0]


def gradients(
    bias: Bias | None,
    positions: Int[Array, " t"],
    segments: Int[Array, " t"],
    *arrays: jax.Array,
) -> tuple[Any, ...]:
    """The gradients of q, k, v and the floating leaves of bias from q, k, v, lse, do and delta.

    The formulas are those of backward.py, with s before t.
    """
    q, k, v, lse, d_out, delta = arrays
    scale = q.shape[-1] ** -0.5
    scaled = (q * scale).astype(q.dtype)
    leaves, join = floating(bias)

    def score(qk: Float[Array, "n s t"], values: list[jax.Array]) -> Float[Array, "n s t"]:
        own = join(values)
        if own is None or not own.additive:
            return transposed(scores_of(own, transposed(qk), positions))
        # Here XLA would transpose the scores, not the term.
        term = jax.vmap(lambda head: head(positions, positions))(own)
        return qk + transposed(term.astype(jnp.float32))

    scores, pull = jax.vjp(score, products(k, transposed(scaled)), leaves)
    mask = jnp.where(tile_mask(segments, segments), 0.0, LOWEST)
    p = jnp.exp(scores + mask.T[None] - lse[:, None, :])
    d_qk, d_leaves = pull(p * (products(v, transposed(d_out)) - delta[:, None, :]))
    d_qk = d_qk.astype(q.dtype)
    # Without the barrier XLA would exchange the factors and transpose the larger one.
    d_q: Any = jax.lax.optimization_barrier(products(transposed(k), d_qk))  # type: ignore[no-untyped-call]
    d_q = transposed(d_q) * scale
    d_k, d_v = products(d_qk, scaled), products(p.astype(v.dtype), d_out)
    return *(x.astype(q.dtype) for x in (d_q, d_k, d_v)), d_leaves


@dataclass(frozen=True)
class RowAttention(DenseAttention):
    """softmax(q k^T / sqrt(h) + bias) v, row by row, with a gradient that keeps no scores."""

    name: ClassVar[str] = "rows"

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
        return self.with_lse(q, k, v, bias, positions, segments)[0]

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
        bias = None if bias is None else per_head(bias, q.shape[1])
        arguments = vary_together(q, k, v, bias, positions, segments)
        return attend(*arguments)

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes of the scores [n, t, t] of one row, their weights, a mask and the bias."""
        return 4 * (2 * n + 1 + (n if bias else 0)) * t * t


def in_rows(
    q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
) -> tuple[Queries, Lse]:
    """The context and the log sum exp of all rows."""
    return by_row(forward, bias, positions, segments, q, k, v)


def gradients_in_rows(
    bias: Bias | None, positions: Positions, segments: Segments, *arrays: jax.Array
) -> Any:
    """The gradients of all rows, from q, k, v, o, lse, do and dl."""
    q, k, v, out, lse, d_out, d_lse = arrays
    delta = (out.astype(jnp.float32) * d_out.astype(jnp.float32)).sum(axis=-1)
    # That of a query without keys is a constant.
    delta = delta - jnp.where(lse > NO_KEYS, d_lse, 0.0)
    return by_row(gradients, bias, positions, segments, q, k, v, lse, d_out, delta)


attend = differentiable(in_rows, gradients_in_rows)
rows = RowAttention()
