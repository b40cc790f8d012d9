"""How fast torch and XLA multiply matrices here, float32, taking turns.

python notes/bench/roof.py      (needs torch, the parity extra)
"""

import time

import jax
import numpy as np
import torch

SHAPES = [(8192, 512, 2048), (8192, 2048, 512), (512, 64, 512), (4096, 384, 1536)]
ROUNDS = 40


def best(calls):
    """The least seconds of each call."""
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in times.items()}


if __name__ == "__main__":
    print("| product | torch, GFLOP/s | XLA, GFLOP/s |\n|---|---|---|")
    multiply = jax.jit(lambda a, b: a @ b)
    for m, k, n in SHAPES:
        random = np.random.default_rng(0)
        a = random.normal(size=(m, k)).astype(np.float32)
        b = random.normal(size=(k, n)).astype(np.float32)
        ours, theirs = (
            (jax.numpy.asarray(a), jax.numpy.asarray(b)),
            (torch.tensor(a), torch.tensor(b)),
        )
        seconds = best(
            {
                "torch": lambda x=theirs: x[0] @ x[1],
                "XLA": lambda x=ours: multiply(*x).block_until_ready(),
            }
        )
        cells = " | ".join(f"{2 * m * k * n / s / 1e9:.0f}" for s in seconds.values())
        print(f"| {m} x {k} x {n} | {cells} |")
