"""The base of the tiled implementations: their signature, steps, gradients and memory."""

from functools import partial

from jaxbert.model.attention.backward import Tiling, differentiable
from jaxbert.model.attention.online import vary_together
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias, per_head


class Tiled:
    """softmax(q k^T / sqrt(h) + bias) v as dense computes it, in memory linear in the length.

    Tiles of keys that ALiBi (or any bias with `upper`) makes negligible are left out: the context
    moves by at most tolerance times the largest |v|; tolerance=0.0 leaves out nothing but padding
    and other texts. A subclass says how large its tiles are and computes the forward pass.
    """

    def tiling(self, q: Queries, bias: Bias | None) -> Tiling:
        """The tile sizes for these queries. Raises NotImplementedError for unsupported ones."""
        raise NotImplementedError(f"{type(self).__name__} must define tiling")

    def forward(
        self,
        tiling: Tiling,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> tuple[Queries, Lse]:
        """The context [b, n, t, h], and the log sum exp of the scores [b, n, t]."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def __call__(
        self,
        q: Queries,
        k: Keys,
        v: Values,
        bias: Bias | None,
        positions: Positions,
        segments: Segments,
    ) -> Queries:
        """The context [b, n, t, h] of q, k, v [b, n, t, h], positions [#b, t], segments [b, t].

        Raises NotImplementedError for arguments that the implementation does not support; the
        caller then uses another.
        """
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
        """The context, and the log sum exp [b, n, t] of the scores in tiles that are not left out.

        It is that of all scores within tolerance / 2. Arguments and errors as in a call.
        """
        bias = None if bias is None else per_head(bias, q.shape[1])
        tiling = self.tiling(q, bias)
        attend = differentiable(partial(self.forward, tiling), tiling)
        return attend(*vary_together(q, k, v, bias, positions, segments))

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """0, since the scores exist a tile at a time; arguments as in Attention."""
        return 0
