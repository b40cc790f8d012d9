"""Attention for texts with tokens that read them and that they do not see.

ColBERT pads a query with [MASK] (arXiv:2004.12832, section 3.2): these attend to the tokens of the
query, and nothing attends to them. A token in segment -i attends to segment i.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxbert.model.attention.base import dense
from jaxbert.model.attention.dense import attention_scores, masked_weights, weighted_mean
from jaxbert.model.axes import AttentionMask, Keys, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias


def expansion_mask(segments: Segments) -> AttentionMask:
    """True where query t, of segment i or -i, reads key s of segment i > 0."""
    q, k = jnp.abs(segments)[:, None, :, None], segments[:, None, None, :]
    return (q == k) & (k > 0)


@dataclass(frozen=True)
class Expansion:
    """softmax(q k^T / sqrt(h) + bias) v over the keys of segment i, for queries of i and -i.

    It is the dense definition, for a query is short; without negative segments it gives the same.
    """

    name: ClassVar[str] = "expansion"

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
        mask = expansion_mask(segments)
        weights = masked_weights(attention_scores(q, k, bias, positions), mask)
        return weighted_mean(weights, v).astype(q.dtype)

    def score_bytes(self, *sizes: Any) -> int:
        """Those of the dense definition."""
        return dense.score_bytes(*sizes)


expansion = Expansion()
