"""Tokens of a batch on a CPU: milliseconds per 4096 tokens, for batches of 256 to 8192 tokens.

python notes/bench/budget.py [--dtype float32] [--rounds 8]
Real all-MiniLM-L6-v2, full batches of random words, all sizes interleaved in one process.
"""

import argparse
import time

import numpy as np

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded

BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
LENGTHS = (32, 128, 256)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    embedder = Embedder.from_pretrained(hub.installed_package(), dtype=options.dtype)
    print(f"| {options.dtype}: tokens of a batch | {' | '.join(map(str, BUDGETS))} |")
    print("|---" * (len(BUDGETS) + 1) + "|")
    for t in LENGTHS:
        arrays = {}
        for budget in BUDGETS:
            b = budget // t
            words = np.random.default_rng(0).integers(1000, 30000, (b, t)).astype(np.int32)
            arrays[budget] = Padded(np.arange(b), b, t).fill(list(words)), np.array(0, np.int32)
            embedder.engine.vectors(*arrays[budget]).block_until_ready()
        least = dict.fromkeys(BUDGETS, float("inf"))
        for _ in range(options.rounds):
            for budget, given in arrays.items():
                for _ in range(max(1, 2048 // budget)):
                    start = time.perf_counter()
                    embedder.engine.vectors(*given).block_until_ready()
                    spent = (time.perf_counter() - start) * 4096 / budget
                    least[budget] = min(least[budget], spent)
        cells = " | ".join(f"{1e3 * least[budget]:.0f}" for budget in BUDGETS)
        print(f"| rows of {t} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
