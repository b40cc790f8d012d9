"""What decides about the bits of a CPU's results, beside versions: instructions, threads, flags.

Measured with the real all-MiniLM-L6-v2, `deterministic=True`: SSE4.2, AVX and AVX2 (with FMA) give
three different results, and what comes after AVX2 the bits of AVX2, in float32 and bfloat16. One
thread, two, and three or more give three, as XLA cuts its loops for them; 3 to 64 gave the same.
"""

import os
import platform
from pathlib import Path
from typing import Any

import jax

# Instruction sets of x86, each with the flag of the kernel that tells of it, from least to most.
LEVELS = (
    ("sse2", ("sse2",)),
    ("sse4.2", ("sse4_2",)),
    ("avx", ("avx",)),
    ("avx2", ("avx2", "fma")),
)
# What --xla_cpu_max_isa may say, up to AVX2; all else is above it.
BOUNDS = {"SSE4_2": "sse4.2", "AVX": "avx"}
MAX_ISA = "--xla_cpu_max_isa"
# Flags of XLA that change no bits; the bound on instructions is named as what it leads to.
HARMLESS = (MAX_ISA, "--xla_dump", "--xla_force_host_platform_device_count")


def flags() -> dict[str, str]:
    """XLA_FLAGS as name -> value; the last one counts, as in XLA; a name of a file is read."""
    text = os.environ.get("XLA_FLAGS", "").strip()
    if text and not text.startswith("-"):
        try:
            text = Path(text).read_text()
        except (OSError, ValueError):
            return {"XLA_FLAGS": text}
    words = (word.partition("=") for word in text.split())
    return {name: value for name, _, value in words}


def instructions(bound: str | None = None) -> str:
    """The instruction set that decides about bits; above AVX2 it is AVX2 that does."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "x86_64"
    line = next((own for own in text.splitlines() if own.startswith("flags")), "")
    has, found = set(line.split()), "x86_64"
    for name, needed in LEVELS:
        if has.issuperset(needed):
            found = name
        if BOUNDS.get((bound or "").strip("'\"").upper()) == name:
            break
    return found


def threads() -> int:
    """How many threads XLA computes with: NPROC, or the processors that this process may use."""
    given = os.environ.get("NPROC", "")
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(int(given) if given.isdecimal() else usable, jax.local_device_count())


def processor() -> dict[str, Any]:
    """What every run says of the processor; the instructions and threads only where it computes."""
    given = flags()
    told: dict[str, Any] = {
        "xla_flags": {k: v for k, v in sorted(given.items()) if not k.startswith(HARMLESS)}
    }
    if jax.default_backend() == "cpu":
        told |= {"instructions": instructions(given.get(MAX_ISA)), "threads": threads()}
    return told
