"""Where the time of a batch goes, by kind of operation, from XLA's own trace.

python notes/bench/shares.py [--rows 4] [--length 128] [--dtype float32] [--rounds 10]
Real all-MiniLM-L6-v2, a full batch of random words. Parts of one operation that run on two threads
are added, so the shares count, not the sum.
"""

import argparse
import glob
import re
import tempfile
import time
from collections import Counter

import jax
import numpy as np

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded

KINDS = {
    "matrix products with weights": re.compile(r"f32\[\d+,\d+\]: dot$"),
    "scores and softmax": re.compile(r"dot .*exponential"),
    "product with the values": re.compile(r"f32\[[\d,]+\]: dot$"),
    "sums of softmax and norms": re.compile(r"reduce"),
    "gelu": re.compile(r"erf"),
}


def least(program, arrays, rounds):
    program(*arrays).block_until_ready()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        program(*arrays).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def traced(program, arrays, rounds):
    """Nanoseconds of each operation of the program, all rounds together."""
    total = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(rounds):
                program(*arrays).block_until_ready()
        (file,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        for plane in jax.profiler.ProfileData.from_file(file).planes:
            for line in plane.lines:
                for event in line.events:
                    operation = dict(event.stats).get("hlo_op")
                    if operation:
                        total[operation] += event.duration_ns
    return total


def contents(text):
    """What each fusion of a program holds: its shape and its operations."""
    inside, current = {}, None
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY")):
            current = inside.setdefault(line.split()[0].lstrip("%"), [])
        elif current is not None and (found := re.search(r" = \S+ ([\w\-]+)\(", line)):
            current.append(found[1])
    fusions = re.findall(r"%?([\w.\-]+) = (\w+\[[\d,]*\])\S* fusion\(.*calls=%?([\w.\-]+)", text)
    return {
        name: f"{shape}: {' '.join(op for op in inside.get(called, ()) if op != 'parameter')}"
        for name, shape, called in fusions
    }


def kind(description):
    found = [name for name, pattern in KINDS.items() if pattern.search(description)]
    return found[0] if found else "everything else: copies, sums, lookups"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    embedder = Embedder.from_pretrained(hub.installed_package(), dtype=options.dtype)
    program, b, t = embedder.engine.vectors, options.rows, options.length
    words = np.random.default_rng(0).integers(1000, 30000, (b, t)).astype(np.int32)
    arrays = (Padded(np.arange(b), b, t).fill(list(words)), np.array(0, np.int32))
    seconds = least(program, arrays, options.rounds)
    (compiled,) = program.compiled.values()
    holds = contents(compiled.as_text())
    shares = Counter()
    for operation, nanoseconds in traced(program, arrays, options.rounds).items():
        shares[kind(holds.get(operation, operation))] += nanoseconds
    whole = sum(shares.values())
    print(f"{b} x {t}, {options.dtype}: {1e3 * seconds:.1f} ms")
    for name, nanoseconds in shares.most_common():
        print(f"| {name} | {100 * nanoseconds / whole:.0f} % |")


if __name__ == "__main__":
    main()
