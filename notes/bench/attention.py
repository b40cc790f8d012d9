"""Time and peak memory of the small JinaBERT encoder, dense against blockwise attention.

python notes/bench/attention.py
Random weights in the sizes of jina-embeddings-v2-small-en, float32, one text a row. Each figure
is a process of its own, for peak memory is kept per process; the two kinds take turns.
"""

import resource
import subprocess
import sys
import time

CASES = [(512, 8), (2048, 1), (8192, 1)]  # tokens, rows
ROUNDS = 3


def measure(kind: str, length: int, rows: int) -> None:
    """One line: seconds (minimum of ROUNDS calls after the first) and the peak in GiB."""
    import numpy as np
    from flax import nnx

    from jaxbert import Encoder, EncoderConfig
    from jaxbert.attention import blockwise, dense

    config = EncoderConfig.jinabert(
        vocab_size=30528, hidden_size=512, num_layers=4, num_heads=8, intermediate_size=2048
    )
    attention = {"dense": dense, "blockwise": blockwise}[kind]
    encoder = Encoder(config, rngs=nnx.Rngs(0), attention=attention)
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (rows, length))
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        encoder(ids).block_until_ready()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{min(times[1:]):.3f} {peak:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        sys.exit()
    print("| tokens x rows | dense | blockwise |\n|---|---|---|")
    for length, rows in CASES:
        cells = []
        for kind in ("dense", "blockwise"):
            command = [sys.executable, __file__, kind, str(length), str(rows)]
            seconds, peak = subprocess.check_output(command, text=True).split()
            cells.append(f"{seconds} s, {peak} GiB")
        print(f"| {length} x {rows} | {' | '.join(cells)} |", flush=True)
