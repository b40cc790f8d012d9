"""The first lists that a new user embeds: shapes compiled as they come, and coarse ones first.

python notes/bench/first_use.py --data mixed.jsonl.gz [--texts 200] [--lists 15]

Real all-MiniLM-L6-v2, float32, lists of other mixed texts each, cut at 512 tokens. A column is a
process of its own that finds no compiled program; "warm" is the first list again, the least of
three runs with all its shapes compiled.
"""

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

from jaxbert import Embedder
from jaxbert.checkpoint import hub

KINDS = ("finest at once", "coarse first")


def child(options):
    """Print the seconds and compilations of each list, and of the first one when all is warm."""
    with gzip.open(options.data, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line)["text"] for line in stream]
    random.Random(0).shuffle(rows)
    n = options.texts
    lists = [rows[i * n : (i + 1) * n] for i in range(options.lists)]
    embedder = Embedder.from_pretrained(hub.installed_package())
    planner = embedder.planner
    if options.child == KINDS[0]:
        embedder.engine.planner = replace(planner, compiling=0)

    def timed(texts):
        start, before = time.perf_counter(), embedder.compilations
        embedder.encode(texts, max_length=512)
        return time.perf_counter() - start, embedder.compilations - before

    found = [timed(texts) for texts in lists]
    embedder.engine.planner = replace(planner, compiling=0)
    warm = min(timed(lists[0])[0] for _ in range(4))
    print(json.dumps({"lists": found, "warm": warm, "compile": embedder.stats.compile_seconds}))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--lists", type=int, default=15)
    parser.add_argument("--child", choices=KINDS, help="for the script's own processes")
    options = parser.parse_args()
    if options.child:
        return child(options)
    found = {}
    for kind in KINDS:
        told = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--child", kind],
            env={**os.environ, "JAXBERT_CACHE": "off"},
            stdout=subprocess.PIPE,
            check=True,
        )
        found[kind] = json.loads(told.stdout)
    print(f"| seconds (compilations) | {' | '.join(KINDS)} |\n|---|---|---|")
    for i in range(options.lists):
        cells = ("{:.2f} ({})".format(*found[kind]["lists"][i]) for kind in KINDS)
        print(f"| list {i + 1} | {' | '.join(cells)} |")
    totals = (f"{sum(s for s, _ in found[kind]['lists']):.1f}" for kind in KINDS)
    print(f"| all | {' | '.join(totals)} |")
    warm = (f"{found[kind]['warm']:.2f}" for kind in KINDS)
    print(f"| list 1, warm | {' | '.join(warm)} |")
    return None


if __name__ == "__main__":
    main()
