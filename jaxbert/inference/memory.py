"""How much memory a forward pass needs, estimated before anything is compiled.

The factors were fitted to the memory that XLA reports for compiled programs, and tests compare the
two. The estimate refuses batches that are far too large; near the limit it may err either way.
"""

import os
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxbert.errors import DeviceMemoryError
from jaxbert.model.attention import Attend, score_bytes
from jaxbert.model.chunked import CHUNK
from jaxbert.model.config import EncoderConfig

GIB = 2**30
# The memory limit of a container on Linux, in cgroup versions 2 and 1.
CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def projections(config: EncoderConfig) -> int:
    """How many weights [d, f] a feed-forward has."""
    return 3 if config.feed_forward == "glu" else 2


def parameters(config: EncoderConfig) -> int:
    """How many numbers the tables and projections hold; norms and biases are negligible."""
    d, f, heads = config.hidden_size, config.intermediate_size, config.num_heads * config.sizes["h"]
    rows = config.vocab_size + (config.position_rows if config.position == "learned" else 0)
    return rows * d + config.num_layers * (4 * d * heads + projections(config) * d * f)


def estimate(
    config: EncoderConfig,
    attention: Attend,
    dtype: DTypeLike,
    b: int,
    t: int,
    has_bias: bool,
    outputs: int = 0,
) -> int:
    """The bytes that b rows of t tokens take, weights included.

    Six arrays [b, t, d] exist at the same time as the scores; in the feed-forward it is four of
    them, and four [b, chunk, f] if it is gated, else two. The size of the scores comes from the
    implementation of attention; has_bias says whether the position scheme adds a term to them.
    outputs is the float32 numbers that each token has beside its state, such as logits.
    """
    width = jnp.dtype(dtype).itemsize
    states = width * b * t * config.hidden_size
    scores = score_bytes(attention, b, config.num_heads, t, has_bias)
    inner = width * 2 * (projections(config) - 1) * b * min(t, CHUNK) * config.intermediate_size
    head = 4 * b * t * outputs
    return parameters(config) * width + max(6 * states + scores, 4 * states + inner) + head


def container_memory() -> int | None:
    """Bytes that the container may use; None where there is no limit, or none is known."""
    limits = []
    for file in CGROUPS:
        try:
            limits.append(int(file.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return min((limit for limit in limits if limit > 0), default=None)


@cache
def device_memory(device: jax.Device | None = None) -> int | None:
    """Bytes of memory of a device, None where unknown; device None is the first one."""
    stats = (device or jax.local_devices()[0]).memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    try:
        host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return container_memory()
    return min(host, container_memory() or host)


def longest(
    config: EncoderConfig,
    attention: Attend,
    dtype: DTypeLike,
    b: int,
    most: int,
    has_bias: bool,
    outputs: int = 0,
) -> int:
    """The largest t whose estimate is at most `most` bytes; 0 if there is none."""
    low, high = 0, 1
    while estimate(config, attention, dtype, b, high, has_bias, outputs) <= most:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = estimate(config, attention, dtype, b, middle, has_bias, outputs) <= most
        low, high = (middle, high) if fits else (low, middle)
    return low


def check_memory(
    config: EncoderConfig,
    attention: Attend,
    dtype: DTypeLike,
    b: int,
    t: int,
    has_bias: bool,
    device: jax.Device | None = None,
    outputs: int = 0,
    remedy: str = "attention=blockwise if it is dense",
) -> None:
    """Raise DeviceMemoryError for b rows of t tokens that the device cannot hold.

    remedy is the last thing that the message advises.
    """
    most = device_memory(device)
    needed = estimate(config, attention, dtype, b, t, has_bias, outputs)
    if most is None or needed <= most:
        return
    fit = longest(config, attention, dtype, b, most, has_bias, outputs)
    raise DeviceMemoryError(
        f"{b} x {t} tokens need about {needed / GIB:.1f} GiB, but the device has "
        f"{most / GIB:.1f} GiB, enough for {b} x {fit}; shorten the texts (max_length), take fewer "
        f"rows (batch_size), or {remedy}"
    )
