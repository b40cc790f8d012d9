"""Where OpenVINO spends the time of a batch, by kind of operation, as it reports it.

python notes/bench/openvino_shares.py [--rows 4] [--length 256] [--dtype float32] [--rounds 60]
Real all-MiniLM-L6-v2 by engine="openvino", a full batch of random words; the least time of each
operation over all rounds. What it spends outside of operations is not in the sum.
"""

import argparse
from collections import Counter

import numpy as np

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded
from jaxbert.inference.forward import vectors
from jaxbert.inference.graph_programs import arguments, program_graph
from jaxbert.inference.openvino import input_names, openvino

# OpenVINO's names of operations, in plain words.
KINDS = {
    "FullyConnected": "products with weights",
    "Subgraph": "attention",
    "Reorder": "changes of dtype and layout",
    "Transpose": "changes of dtype and layout",
    "MVN": "norms and residuals",
    "Add": "norms and residuals",
    "MulAdd": "norms and residuals",
}


def least(model, given, rounds):
    """Seconds of each operation: (its kind, its name) -> the least of all rounds."""
    request, found = model.create_infer_request(), {}
    for _ in range(rounds):
        request.infer(given)
        for node in request.profiling_info:
            key, seconds = (node.node_type, node.node_name), node.real_time.total_seconds()
            if seconds:
                found[key] = min(found.get(key, seconds), seconds)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    embedder = Embedder.from_pretrained(
        hub.installed_package(), dtype=options.dtype, engine="openvino"
    )
    program, b, t = embedder.engine.vectors, options.rows, options.length
    graph = program_graph(vectors, *program.fixed)
    settings = program.device.settings() | {"PERF_COUNT": True}
    core = openvino().Core()
    model = core.compile_model(core.read_model(model=graph), "CPU", settings)
    words = np.random.default_rng(0).integers(1000, 30000, (b, t)).astype(np.int32)
    arrays = arguments(vectors, Padded(np.arange(b), b, t).fill(list(words)))
    given = {name: arrays[name] for name in input_names(model)}
    shares = Counter()
    for (kind, _), seconds in least(model, given, options.rounds).items():
        shares[KINDS.get(kind, "everything else")] += seconds
    whole = sum(shares.values())
    print(f"{b} x {t}, {options.dtype}: {1e3 * whole:.1f} ms")
    for name, seconds in shares.most_common():
        print(f"| {name} | {1e3 * seconds:.1f} ms | {100 * seconds / whole:.0f} % |")


if __name__ == "__main__":
    main()
