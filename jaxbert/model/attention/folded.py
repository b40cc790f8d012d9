"""Attention with the heads folded into the rows: for bfloat16 on a CPU.

Products of four axes are transposed first, and behind a transpose XLA's CPU compiler widens
bfloat16 to float32 before it multiplies; those of three axes, [b n, t, h], stay bfloat16, for which
processors have instructions of their own (notes/06-cpu.md).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from jaxbert.model.attention.base import DenseAttention
from jaxbert.model.attention.dense import (
    LOWEST,
    attention_mask,
    biased_scores,
    largest_score,
    product,
    softmax_denominator,
)
from jaxbert.model.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias


def folded_attention(
    q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
) -> Queries:
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0.

    Differs from dense_attention in that weights are rounded to the dtype of v before they are
    summed, so that those that multiply v have the sum 1.
    """
    b, n, t, h = q.shape
    q3, k3, v3 = (x.reshape(b * n, t, h) for x in (q, k, v))
    scores = product("bth,bsh->bts", q3, k3) * h**-0.5
    if bias is not None:
        by_head = biased_scores(scores.reshape(b, n, t, t), bias, positions, positions)
        scores = by_head.reshape(b * n, t, t)
    mask = jnp.where(attention_mask(segments), 0.0, LOWEST)
    scores = scores + jnp.broadcast_to(mask, (b, n, t, t)).reshape(b * n, t, t)
    weights = jnp.exp(scores - largest_score(scores)).astype(v.dtype)
    context = product("bts,bsh->bth", weights, v3)
    total = softmax_denominator(weights.astype(jnp.float32))
    return (context / total).astype(q.dtype).reshape(b, n, t, h)


@dataclass(frozen=True)
class FoldedAttention(DenseAttention):
    """folded_attention as an implementation; its log sum exp is that of dense."""

    name: ClassVar[str] = "folded"

    def __call__(
        self,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> Queries:
        """The context [b, n, t, h]; arguments as in folded_attention."""
        return folded_attention(q, k, v, bias, positions, segments)

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes of float32 scores and of a mask, both [b n, t, t], and of the bias [n, t, t]."""
        return 4 * (2 * b * n + (n if bias else 0)) * t * t


folded = FoldedAttention()
