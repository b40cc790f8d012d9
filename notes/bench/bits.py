"""Which processors and threads give the same bits: sums of MiniLM's deterministic vectors.

python notes/bench/bits.py; each line is a process of its own.
"""

import hashlib
import os
import subprocess
import sys

SETTINGS = {
    **{f"{isa}, 2 threads": (isa, 2) for isa in ("SSE4_2", "AVX", "AVX2", "AVX512")},
    **{f"AVX2, {threads} threads": ("AVX2", threads) for threads in (1, 3, 4, 8)},
}
TEXTS = [" ".join(["the cat sat on a mat"] * n) for n in (1, 2, 3, 5, 7, 11, 23, 37)]


def main() -> None:
    """Print a line for each setting."""
    for name, (isa, threads) in SETTINGS.items():
        flags = {"XLA_FLAGS": f"--xla_cpu_max_isa={isa}", "NPROC": str(threads)}
        more = {"JAXBERT_CACHE": "off", "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, __file__, "one"]
        done = subprocess.run(
            command, env=os.environ | flags | more, capture_output=True, text=True, check=True
        )
        print(f"{name:<20}{done.stdout.strip()}", flush=True)


def one() -> None:
    """The sums of this process, float32 and bfloat16."""
    from jaxbert import Embedder

    name = "sentence-transformers/all-MiniLM-L6-v2"
    for dtype in ("float32", "bfloat16"):
        vectors = Embedder.from_pretrained(name, deterministic=True, dtype=dtype).encode(TEXTS)
        print(hashlib.sha256(vectors.tobytes()).hexdigest()[:12], end=" ")


if __name__ == "__main__":
    one() if sys.argv[1:] == ["one"] else main()
