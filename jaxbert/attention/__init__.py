"""attend(q, k, v, bias, positions, segments): attention, and the choice of how to compute it.

Short texts take the dense definition, long ones blockwise or the kernel of the platform, all with
the same result. To force one, pass it: `Encoder.from_pretrained(folder, attention=dense)`, or
`named("tpu")` for a kernel.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.attention.blockwise import Blockwise, blockwise
from jaxbert.attention.dense import dense, probabilities
from jaxbert.axes import Keys, Positions, Queries, Segments, Values
from jaxbert.errors import InputError, InputTypeError
from jaxbert.position import Bias

Attend = Callable[..., Queries]

# Up to this many tokens the scores of a head are one small tile, and dense is at least as fast
# (notes/05-attention.md).
SHORT = 256

log = logging.getLogger(__name__)


def kernel_tpu(*arguments: Any) -> Queries:
    """The kernel for TPU; imported when first needed, for Pallas takes a second to import."""
    from jaxbert.attention.tpu import tpu

    return tpu(*arguments)


def kernel_gpu(*arguments: Any) -> Queries:
    """The kernel for NVIDIA GPUs."""
    from jaxbert.attention.gpu import gpu

    return gpu(*arguments)


# By backend, as jax.default_backend() has it: the platform of its programs, and their kernel.
KERNELS: Mapping[str, tuple[str, Attend]] = {
    "tpu": ("tpu", kernel_tpu),
    "gpu": ("cuda", kernel_gpu),
}


def with_fallback(platform: str, kernel: Attend) -> Attend:
    """The kernel, and blockwise for what it cannot do."""

    def run(*arguments: Any) -> Queries:
        try:
            return kernel(*arguments)
        except NotImplementedError as error:
            log.warning("attention on %s: blockwise instead of the kernel: %s", platform, error)
            return blockwise(*arguments)

    return run


def attend(
    q: Queries, k: Keys, v: Values, bias: Bias | None, positions: Positions, segments: Segments
) -> Queries:
    """softmax(q k^T / sqrt(h) + bias) v; zeros for queries in segment 0.

    Shapes: q, k, v [b, n, t, h]; positions [#b, t]; segments [b, t]. Which implementation computes
    it depends on t and on the platform that the program is compiled for; see `plan`.
    """
    check_arguments(q, k, v, bias, positions, segments)
    b, n, t, _ = q.shape
    arguments = (q, k, v, bias, positions, segments)
    backend = jax.default_backend()
    log.info("attention of %d x %d heads x %d tokens: %s", b, n, t, implementation(backend, t))
    if t <= SHORT:
        return dense(*arguments)
    if backend not in KERNELS:  # no accelerator is there: kernels need not even be traced
        return blockwise(*arguments)
    platform, kernel = KERNELS[backend]
    own = {platform: with_fallback(platform, kernel)}
    return jax.lax.platform_dependent(*arguments, default=blockwise, **own)


def check_arguments(q: Any, k: Any, v: Any, bias: Any, positions: Any, segments: Any) -> None:
    """Refuse arrays of other kinds and shapes than those that fit each other."""
    given = {"q": q, "k": k, "v": v, "positions": positions, "segments": segments}
    for name, value in given.items():
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


def implementation(backend: str, t: int) -> str:
    """The name of what attend takes for t tokens on a backend, as jax.default_backend() has it."""
    if t <= SHORT:
        return "dense"
    return backend if backend in KERNELS else "blockwise"


def plan(backend: str) -> str:
    """What attend takes on a backend, as a sentence for people."""
    long = implementation(backend, SHORT + 1)
    return f"dense up to {SHORT} tokens, then {long} (on {backend})"


ATTENTIONS: Mapping[str, Attend] = {
    "auto": attend,
    "dense": dense,
    "blockwise": blockwise,
    "tpu": kernel_tpu,
    "gpu": kernel_gpu,
}


def named(name: str) -> Attend:
    """The implementation of that name: auto, dense, blockwise, tpu or gpu."""
    if name not in ATTENTIONS:
        raise InputError(f"attention {name!r} is unknown; there are {', '.join(ATTENTIONS)}")
    return ATTENTIONS[name]


def is_exact(attention: object) -> bool:
    """Whether this computes attention by the definition: one of the package's own.

    Tiles may have any size, but may not leave out more than those of `attend` do.
    """
    if any(attention is own for own in ATTENTIONS.values()):
        return True
    kind = type(attention)
    if kind is not Blockwise and (kind.__module__, kind.__name__) not in TILED:
        return False
    return 0 <= float(getattr(attention, "tolerance", 1)) <= Blockwise().tolerance


# The kernels, whose modules are imported only by those who use them.
TILED = (("jaxbert.attention.tpu", "Tpu"), ("jaxbert.attention.gpu", "Gpu"))

__all__ = [
    "ATTENTIONS",
    "Attend",
    "Blockwise",
    "attend",
    "blockwise",
    "dense",
    "is_exact",
    "named",
    "plan",
    "probabilities",
]
