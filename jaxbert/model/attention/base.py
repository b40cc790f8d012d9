"""What every implementation of attention is: a name, the memory of its scores, and a call."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxbert.model.axes import Queries

# attention(q, k, v, bias, positions, segments): an implementation, or a function of your own.
Attend = Callable[..., Queries]


@runtime_checkable
class Attention(Protocol):
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0.

    dense.py defines it; every implementation is tested against that.
    """

    @property
    def name(self) -> str:
        """What the command, metadata and messages call it."""

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes that its scores take at one time; bias: whether there is one."""

    def __call__(self, *arguments: Any) -> Queries:
        """Of q, k, v [b, n, t, h], a Bias or None, positions [#b, t] and segments [b, t]."""


def name_of(attention: Any) -> str:
    """The name of an implementation; of a function of your own where it is defined."""
    if isinstance(attention, Attention):
        return attention.name
    own = attention if hasattr(attention, "__qualname__") else type(attention)
    return f"{own.__module__}.{own.__qualname__}"


def score_bytes(attention: Any, b: int, n: int, t: int, bias: bool) -> int:
    """Bytes of the scores; a function of your own is taken to keep none."""
    return attention.score_bytes(b, n, t, bias) if isinstance(attention, Attention) else 0
