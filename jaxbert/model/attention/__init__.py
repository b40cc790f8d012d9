"""attend(q, k, v, bias, positions, segments): attention by the implementation that suits.

Short texts take the dense definition (folded in bfloat16 on a CPU), long ones blockwise or the
kernel of the platform, all with the same result. To choose one, pass it:
`Encoder.from_pretrained(folder, attention=dense)`, or `named("tpu")` for a kernel.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxbert.errors import InputError
from jaxbert.model.attention.base import (
    Attend,
    Attention,
    DenseAttention,
    check_arguments,
    check_heads,
    dense,
    name_of,
    score_bytes,
)
from jaxbert.model.attention.blockwise import Blockwise, blockwise
from jaxbert.model.attention.dense import probabilities
from jaxbert.model.attention.folded import FoldedAttention, folded
from jaxbert.model.axes import Keys, Lse, Positions, Queries, Segments, Values
from jaxbert.model.position import Bias

# Up to this many tokens the scores of a head are one small tile, and dense is at least as fast
# (notes/05-attention.md).
SHORT = 256

log = logging.getLogger(__name__)

# What is asked of an implementation, run(implementation, *arguments): one of the two below.
Run = Callable[..., Any]


def context(implementation: Any, *arguments: Any) -> Queries:
    """The context by an implementation; arguments as in Attention."""
    return implementation(*arguments)


def context_and_lse(implementation: Any, *arguments: Any) -> tuple[Queries, Lse]:
    """The context and the log sum exp by an implementation; arguments as in Attention."""
    return implementation.with_lse(*arguments)


@dataclass(frozen=True)
class Kernel:
    """A Pallas kernel, imported when it is first needed: Pallas takes a second to import."""

    name: str
    platform: str  # that it is compiled for, as jax.lax.platform_dependent names it

    def kernel(self) -> Any:
        """The implementation itself, from its own module."""
        module = import_module(f"jaxbert.model.attention.{self.name}")
        return getattr(module, self.name)

    def __call__(self, *arguments: Any) -> Queries:
        """The context [b, n, t, h]; arguments and errors as in Tiled."""
        return self.kernel()(*arguments)

    def with_lse(self, *arguments: Any) -> tuple[Queries, Lse]:
        """The context, and the log sum exp of the scores; arguments and errors as in Tiled."""
        return self.kernel().with_lse(*arguments)

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """0, since the scores exist a tile at a time; other arguments as in Attention."""
        return 0

    def or_blockwise(self, run: Run, *arguments: Any) -> Any:
        """run by the kernel, or by blockwise where that raises NotImplementedError."""
        try:
            return run(self, *arguments)
        except NotImplementedError as error:
            log.warning("attention on %s: blockwise, not the kernel: %s", self.platform, error)
            return run(blockwise, *arguments)


# By backend, as jax.default_backend() names it.
KERNELS: Mapping[str, Kernel] = {"tpu": Kernel("tpu", "tpu"), "gpu": Kernel("gpu", "cuda")}


def implementation(backend: str, t: int, dtype: DTypeLike) -> Attention:
    """The implementation that attend uses for t tokens on a backend of jax.default_backend().

    dtype is that of queries, keys and values.
    """
    if t <= SHORT:
        return folded if backend == "cpu" and dtype == jnp.bfloat16 else dense
    return KERNELS.get(backend, blockwise)


@dataclass(frozen=True)
class Auto:
    """softmax(q k^T / sqrt(h) + bias) v by the implementation that suits length and platform."""

    name: ClassVar[str] = "auto"

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

        The kernel is chosen by the platform that the program is compiled for.
        """
        return self.choose(context, q, k, v, bias, positions, segments)

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
        return self.choose(context_and_lse, q, k, v, bias, positions, segments)

    def choose(self, run: Run, q: Queries, *rest: Any) -> Any:
        """run by the implementation that suits, of arguments as in a call."""
        arguments = (q, *rest)
        check_arguments(*arguments)
        b, n, t, _ = q.shape
        chosen = implementation(jax.default_backend(), t, q.dtype)
        log.info("attention of %d x %d heads x %d tokens: %s", b, n, t, chosen.name)
        if not isinstance(chosen, Kernel):  # on a CPU kernels are not even traced
            return run(chosen, *arguments)
        kernel = {chosen.platform: partial(chosen.or_blockwise, run)}
        return jax.lax.platform_dependent(*arguments, default=partial(run, blockwise), **kernel)

    def score_bytes(self, b: int, n: int, t: int, bias: bool) -> int:
        """Bytes of the scores by the implementation that this machine uses, in either dtype."""
        backend, dtypes = jax.default_backend(), (jnp.float32, jnp.bfloat16)
        chosen = {implementation(backend, t, dtype) for dtype in dtypes}
        return max(each.score_bytes(b, n, t, bias) for each in chosen)


attend = Auto()


def plan(backend: str) -> str:
    """The implementations that attend uses on a backend, as text for a user."""
    wide, narrow = (implementation(backend, 1, dtype) for dtype in (jnp.float32, jnp.bfloat16))
    short = wide.name if narrow is wide else f"{wide.name} ({narrow.name} in bfloat16)"
    long = implementation(backend, SHORT + 1, jnp.float32)
    return f"{short} up to {SHORT} tokens, then {long.name} (on {backend})"


IMPLEMENTATIONS: tuple[Attention, ...] = (attend, dense, folded, blockwise, *KERNELS.values())
ATTENTIONS: Mapping[str, Attention] = {each.name: each for each in IMPLEMENTATIONS}


def named(name: str) -> Attention:
    """The implementation of a name in ATTENTIONS, such as dense. Raises InputError."""
    if name not in ATTENTIONS:
        raise InputError(f"attention {name!r} is unknown; there are {', '.join(ATTENTIONS)}")
    return ATTENTIONS[name]


# The package's classes that compute the definition; those of the kernels by name, since their
# modules are imported only when used.
EXACT = (Auto, DenseAttention, FoldedAttention, Blockwise, Kernel)
EXACT_KERNELS = (("jaxbert.model.attention.tpu", "Tpu"), ("jaxbert.model.attention.gpu", "Gpu"))


def is_exact(attention: object) -> bool:
    """Whether an attention is the package's own, with at most the tolerance that `attend` has.

    Tiles may have any size.
    """
    kind = type(attention)
    if kind not in EXACT and (kind.__module__, kind.__name__) not in EXACT_KERNELS:
        return False
    return 0 <= float(getattr(attention, "tolerance", 0.0)) <= Blockwise.tolerance


__all__ = [
    "ATTENTIONS",
    "Attend",
    "Attention",
    "Blockwise",
    "attend",
    "blockwise",
    "check_heads",
    "dense",
    "folded",
    "is_exact",
    "name_of",
    "named",
    "plan",
    "probabilities",
    "score_bytes",
]
