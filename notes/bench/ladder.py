"""Ladders of lengths and shared rows: padding against compilations, on real token counts.

python notes/bench/ladder.py --data mixed.jsonl.gz [--texts 3000]
Counts only; nothing is run. The data has `kind` and `text` per line.
"""

import argparse
import gzip
import json
import random

from jaxbert.checkpoint import hub
from jaxbert.inference.ladder import rows_for
from jaxbert.inference.packing import Packing
from jaxbert.inference.planning import ByLength, ByText
from jaxbert.text.tokenizer import Tokenizer


def shared(longest, length):
    return ByLength(packing=Packing(longest, length, partial=rows_for), together=None)


PLANNERS = {
    "2 buckets per doubling": ByLength(steps=2, packing=None, together=None),
    "4": ByLength(steps=4, packing=None, together=None),
    "8": ByLength(steps=8, packing=None, together=None),
    "16": ByLength(steps=16, packing=None, together=None),
    "8, up to 32 tokens in rows of 64": shared(32, 64),
    "8, up to 64 tokens in rows of 64": ByLength(),
    "8, up to 64 tokens in rows of 128": shared(64, 128),
    "8, up to 128 tokens in rows of 256": shared(128, 256),
    "shape by text (deterministic)": ByText(),
}
ROWS = {
    "mixed, 256": (256, None),
    "mixed, 512": (512, None),
    "queries": (256, "query"),
}


def counts(tokenizer, rows, longest, kind, number):
    chosen = [row["text"] for row in rows if kind in (None, row["kind"])]
    texts = random.Random(0).sample(chosen, min(number, len(chosen)))
    return [len(ids) for ids in tokenizer(texts, longest)]


def cell(planner, counts):
    batches = planner.plan(counts, None)
    slots = sum(batch.rows * batch.length for batch in batches)
    shapes = {(type(batch), batch.rows, batch.length) for batch in batches}
    return f"{sum(counts) / slots:.3f}, {len(shapes)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=3000)
    options = parser.parse_args()
    with gzip.open(options.data, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    tokenizer = Tokenizer.from_folder(hub.installed_package())
    sets = {
        name: counts(tokenizer, rows, longest, kind, options.texts)
        for name, (longest, kind) in ROWS.items()
    }
    print(f"| padding efficiency, shapes | {' | '.join(sets)} |")
    print("|---" * (len(sets) + 1) + "|")
    for name, planner in PLANNERS.items():
        print(f"| {name} | {' | '.join(cell(planner, own) for own in sets.values())} |")


if __name__ == "__main__":
    main()
