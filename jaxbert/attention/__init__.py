"""attend(q, k, v, bias, positions, segments): attention, and the choice of how to compute it.

attend is the dense definition; blockwise computes the same in memory that grows with the length and
not with its square, for long texts: `Encoder.from_pretrained(folder, attention=blockwise)`.
"""

from collections.abc import Callable

from jaxbert.attention.blockwise import blockwise
from jaxbert.attention.dense import dense, probabilities
from jaxbert.axes import Queries

Attend = Callable[..., Queries]

attend: Attend = dense

__all__ = ["Attend", "attend", "blockwise", "dense", "probabilities"]
