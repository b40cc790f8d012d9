"""Options of XLA's compiler with which products of float32 weights are faster on a CPU."""

import os
from collections.abc import Iterable, Sequence
from functools import cache

import jax
import jax.numpy as jnp

# Which operations XLA hands to the library YNNPACK: reductions and, by default, products too.
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
# Products of float32 then go to Eigen, which is 1.02 to 1.15 times as fast (notes/06-cpu.md).
EIGEN = {LIBRARY: "LIBRARY_FUSION_TYPE_REDUCE"}


def compiler_options(devices: Sequence[jax.Device], weights: Iterable[jax.Array]) -> dict[str, str]:
    """The options for a program with these weights; none but for float32 on CPUs.

    None either where XLA does not know them, or where the environment variable XLA_FLAGS chooses a
    library itself.
    """
    kinds = {leaf.dtype for leaf in weights if jnp.issubdtype(leaf.dtype, jnp.floating)}
    on_cpu = bool(devices) and all(device.platform == "cpu" for device in devices)
    if not on_cpu or kinds != {jnp.dtype(jnp.float32)}:
        return {}
    chosen_by_user = LIBRARY in os.environ.get("XLA_FLAGS", "")
    return EIGEN if not chosen_by_user and is_known() else {}


@cache
def is_known() -> bool:
    """Whether this version of XLA has the option; a program of one operation is compiled."""
    try:
        jax.jit(jnp.negative).lower(jnp.float32(1.0)).compile(compiler_options=dict(EIGEN))
    except Exception:  # an error of XLA's own, which differs between versions
        return False
    return True
