"""Attention as a step of training runs it on a CPU: for a few hundred tokens, row by row."""

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import jax.numpy as jnp

from jaxbert.model.attention import SHORT, Auto, attend
from jaxbert.model.attention.base import check_arguments
from jaxbert.model.attention.rows import rows
from jaxbert.model.copyable import with_attention
from jaxbert.model.transformer import Transformer

Encoder = TypeVar("Encoder", bound=Transformer)

# Up to this many tokens the scores of a row and their gradients stay in the caches.
LONGEST = 512


@dataclass(frozen=True)
class TrainedAttention(Auto):
    """`attend`, but by `rows` in float32 from SHORT to LONGEST tokens."""

    name: ClassVar[str] = "trained"

    def choose(self, run: Any, q: Any, *rest: Any) -> Any:
        """run by the implementation that suits, of arguments as in a call."""
        if q.dtype != jnp.float32 or not SHORT < q.shape[2] <= LONGEST:
            return super().choose(run, q, *rest)
        check_arguments(q, *rest)
        return run(rows, q, *rest)


def attending_faster(encoder: Encoder, platform: str) -> Encoder:
    """The encoder with TrainedAttention on a CPU, unless it has an attention of its own."""
    if platform != "cpu" or encoder.attention is not attend:
        return encoder
    return with_attention(encoder, TrainedAttention())
