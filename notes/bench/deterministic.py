"""What a shape by text costs: the CPU time of mixed texts and of one sentence, by budget.

python notes/bench/deterministic.py --data mixed.jsonl.gz [--rounds 5]

Real all-MiniLM-L6-v2, float32; all planners interleaved in one process. CPU time says more than
the clock where the machine is shared.
"""

import argparse
import gzip
import json
import random
import time

from jaxbert import Embedder
from jaxbert.inference.coarse_first import finest
from jaxbert.inference.planning import ByText

SENTENCE = (
    "How does the length of a sentence change the time that an encoder needs to read it on a "
    "processor?"
)
BUDGETS = (512, 128, 64, 48, 32)


def cpu_seconds(embedder, texts):
    """The CPU time of one call of encode."""
    start = time.process_time()
    embedder.encode(texts, max_length=256)
    return time.process_time() - start


def main():
    """Print the table of ratios to the default planner."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with gzip.open(given.data, "rt") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    random.Random(1).shuffle(texts)
    usual = Embedder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    usual.engine.planner = finest(usual.planner)
    own = (usual.encoder, usual.tokenizer, usual.stack)
    models = {"default": usual}
    models |= {f"{n} tokens": Embedder(*own, ByText(budget=n, longest=512)) for n in BUDGETS}
    lists = {"100 mixed texts": (texts[:100], 1), "one sentence": ([SENTENCE], 5)}
    seconds = {(name, kind): [] for name in models for kind in lists}
    for turn in range(given.rounds + 1):
        for name, model in models.items():
            for kind, (some, times) in lists.items():
                found = [cpu_seconds(model, some) for _ in range(times)]
                seconds[name, kind] += found if turn else []  # the first turn compiles
    print("| planner | " + " | ".join(f"{kind}, CPU s | ratio" for kind in lists) + " |")
    print("|---" * (1 + 2 * len(lists)) + "|")
    for name in models:
        least = {kind: min(seconds[name, kind]) for kind in lists}
        cells = (f"{s:.4f} | {s / min(seconds['default', kind]):.2f}" for kind, s in least.items())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
