"""attend(q, k, v, bias, positions, segments): attention, and the choice of how to compute it."""

from collections.abc import Callable

from jaxbert.attention.dense import dense, probabilities
from jaxbert.axes import Queries

Attend = Callable[..., Queries]

attend: Attend = dense

__all__ = ["Attend", "attend", "dense", "probabilities"]
