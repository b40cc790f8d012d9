"""What rows shared by several texts are worth: the cost of batches, and whole lists by planners.

python notes/bench/shared_rows.py cost   [--rounds 25]
python notes/bench/shared_rows.py lists  --data mixed.jsonl.gz [--rounds 6] [--engine openvino]
    [--dtype bfloat16]

cost: milliseconds of one batch of all-MiniLM-L6-v2, rows with one text each and shared rows, beside
what jaxbert.inference.packing.cost says; and of the first run of a compiled shape.
lists: milliseconds of whole lists, planners in turns; apart is without the row of a few texts. The
sentences are those of queued.py; the data has `kind` and `text` per line.
"""

import argparse
import gzip
import json
import random
import statistics
import time

import numpy as np
from queued import minilm, texts_of

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded
from jaxbert.inference.ladder import rows_for
from jaxbert.inference.packing import CALL, Packing, cost
from jaxbert.inference.planning import CORE, ByLength, cores

PADDED = [(1, 16), (1, 32), (1, 64), (1, 128), (2, 64), (4, 64), (2, 128), (8, 64), (4, 128)]
SHARED = [(1, 64), (1, 128), (1, 256), (2, 64), (4, 64), (8, 64), (4, 128)]


def batches(tokens):
    """Batches by name; shared rows hold texts of 21 tokens, others texts of nearly their length."""
    for rows, length in PADDED:
        yield f"{rows} x {length}", Padded(np.arange(rows), rows, length), length - 3
    for rows, length in SHARED:
        each = length // tokens
        bins = [range(i * each, (i + 1) * each) for i in range(rows)]
        packing = Packing(longest=length, length=length, texts=max(each, 8))
        yield f"{rows} x {length}, shared", packing.batch(bins, rows), tokens


def costs(rounds):
    engine, random_ids = minilm().engine, np.random.default_rng(0)
    jobs, first = {}, {}
    for name, batch, tokens in batches(21):
        ids = [random_ids.integers(999, 9999, tokens).astype(np.int32) for _ in batch.members]

        def run(batch=batch, ids=ids):
            start = time.perf_counter()
            engine.dispatch(engine.vectors, batch, ids, [0] * len(ids)).rows()
            return 1e3 * (time.perf_counter() - start)

        arrays = batch.fill(ids)
        engine.vectors.compile(arrays, np.zeros(arrays.text_axes, np.int32))
        first[name], jobs[name] = run(), (run, batch)
    times = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, (run, _) in jobs.items():
            times[name].append(run())
    print("| rows x tokens | least, ms | median | first | by `cost` |\n|---|---|---|---|---|")
    largest = max(jobs, key=lambda name: cost([jobs[name][1]]))
    unit = statistics.median(times[largest]) / cost([jobs[largest][1]])
    for name, (_, batch) in jobs.items():
        own = times[name]
        about = unit * cost([batch])
        print(
            f"| {name} | {min(own):.1f} | {statistics.median(own):.1f} | {first[name]:.1f} | "
            f"{about:.1f} |"
        )
    print(f"\na call is {CALL} tokens of {unit:.3f} ms")


def planners(budget, longest):
    earlier = Packing(longest=32, partial=rows_for)
    return {
        "apart, to 32 tokens in rows of 64": ByLength(
            budget, longest=longest, packing=earlier, together=None
        ),
        "apart, to 64 in rows of 64": ByLength(budget, longest=longest, together=None),
        "a few together, to 64 in rows of 64": ByLength(budget, longest=longest),
    }


def budget_of(engine, dtype):
    if engine == "jax":
        return CORE * cores()
    from jaxbert.inference import openvino

    return openvino.CORE[dtype] * cores()


def lists(options):
    with gzip.open(options.data, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    chosen = random.Random(0)
    queries = [row["text"] for row in rows if row["kind"] == "query"]
    sets = {
        "400 sentences": texts_of("sentences", 400),
        "150 mixed": [row["text"] for row in chosen.sample(rows, 150)],
        "400 queries": chosen.sample(queries, 400),
        "5 sentences": texts_of("sentences", 5),
    }
    model = Embedder.from_pretrained(hub.installed_package(), dtype=options.dtype)
    parts = (model.encoder, model.tokenizer, model.stack)
    found = planners(budget_of(options.engine, options.dtype), model.encoder.position.limit)
    models = {name: Embedder(*parts, own, engine=options.engine) for name, own in found.items()}
    times = {(kind, name): [] for kind in sets for name in models}
    for turn in range(options.rounds + 1):  # the first one compiles
        for kind, texts in sets.items():
            for name, own in models.items():
                start = time.perf_counter()
                own.encode(texts, max_length=256)
                if turn:
                    times[kind, name].append(1e3 * (time.perf_counter() - start))
    print(f"| least, ms | {' | '.join(sets)} |\n{'|---' * (len(sets) + 1)}|")
    for name in models:
        print(f"| {name} | {' | '.join(f'{min(times[kind, name]):.0f}' for kind in sets)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cost", "lists"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--data")
    parser.add_argument("--engine", choices=("jax", "openvino"), default="jax")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = parser.parse_args()
    if options.what == "cost":
        costs(options.rounds)
    else:
        lists(options)


if __name__ == "__main__":
    main()
