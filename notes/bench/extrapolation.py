"""Trained at 64 characters, read at 1024: which position schemes still find masked characters?

python notes/bench/extrapolation.py [--data mixed.jsonl.gz] [--seeds 3] [--special]

Four schemes are trained by `jaxbert lab extrapolate`, as many processes at a time as there are
cores, each with one thread. Learned positions get four times the steps of the others, for they
need a thousand to begin with; what a run of the command has kept in build/bench is
computed again, since the whole is timed. The claims, of each seed, are about the accuracy at 16
times the trained length, by that at the trained one. `--special` trains symmetric ALiBi also with
[CLS] before each row and with [CLS] and [SEP] around it.

The data is JSON lines with "kind", "source" (author / title) and "text": novels, those of some
authors kept apart. Without --data it is what comes with every Python, the help texts of its
language reference, and the claims are only printed.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import jax
from peers_models import cores, machine

from jaxbert.lab.table import contents, ratio, read, shown

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "bench" / "extrapolation"
FILE = HERE / "extrapolation.json"
KIND = "pages_1_4"
# The authors whose novels are read, and never trained on, and how many characters are enough.
APART = ("Jane Austen", "Joseph Conrad", "Mark Twain")
ENOUGH = {"train": 2_500_000, "evaluate": 120_000}
STEPS = {"learned": 4000, "rope": 1000, "asymmetric": 1000, "alibi": 1000}  # the longest first
# What the accuracy at the longest length must be, by that at the trained one.
CLAIMS = {
    "rope": ("at most", 0.6),
    "learned": ("at most", 0.5),
    "asymmetric": ("at least", 0.99),
    "alibi": ("at least", 0.99),
}
MINUTES = 5
# Weights are drawn by this width: at BERT's 0.02 a model 64 wide takes several times the steps to
# begin with learned positions.
HOW = ["--std", "0.1"]


def novels(data):
    """Write the texts to train on and those to evaluate on; the options that name them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with gzip.open(data, "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["kind"] == KIND]
    of = {"train": [], "evaluate": []}
    for row in rows:
        author = row["source"].partition(" / ")[0]
        of["evaluate" if author in APART else "train"].append(row["text"])
    for name, texts in of.items():
        written = 0
        with open(FOLDER / f"{name}.jsonl", "w") as file:
            for text in texts:
                if written < ENOUGH[name]:
                    file.write(json.dumps({"text": text}) + "\n")
                    written += len(text)
    return ["--texts", f"{FOLDER}/train.jsonl", "--evaluate", f"{FOLDER}/evaluate.jsonl"]


def lab(schemes, options, folder):
    """One process of the command, with one thread."""
    named = [part for scheme in schemes for part in ("--scheme", scheme)]
    command = [sys.executable, "-m", "jaxbert.cli", "lab", "extrapolate", *named, *options]
    one = {"PJRT_NPROC": "1", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run(
        [*command, "-o", str(folder)], env=os.environ | one, check=True, stdout=subprocess.DEVNULL
    )


def measured(schemes, options, folder):
    """The table of all schemes, and the seconds that it took from nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    begun = time.monotonic()

    def one(scheme):
        own = folder / scheme
        lab([scheme], [*options, "--steps", str(STEPS[scheme])], own)
        return read(own / "extrapolation.json")

    with ThreadPoolExecutor(cores()) as pool:
        tables = list(pool.map(one, schemes))
    results = tuple(result for table in tables for result in table.results)
    return tables[-1]._replace(results=results), time.monotonic() - begun


def claims(table, seconds):
    """A sentence for each claim, and whether it holds."""
    longest, first = table.lengths[-1], table.lengths[0]
    for line in table.lines():
        side, bound = CLAIMS[line.scheme]
        ratios = [ratio(own, longest, first) for own in line.results]
        holds = min(ratios) >= bound if side == "at least" else max(ratios) <= bound
        each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        yield f"{line.scheme}: {each} of the accuracy at 1x, {side} {bound}", holds
    yield f"{seconds:.0f} s, at most {MINUTES} minutes", seconds <= 60 * MINUTES


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--special", action="store_true", help="only the runs with [CLS], [SEP]")
    options = parser.parse_args()
    texts = novels(options.data) if options.data else []
    given = [*texts, *HOW, "--seeds", str(options.seeds)]
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    if options.special:
        for name in ("cls", "both"):
            schemes, folder = ("alibi", "asymmetric"), FOLDER / name
            table, seconds = measured(schemes, [*given, "--special", name], folder)
            print(f"\n{name}, {seconds:.0f} s\n{shown(table)}")
            found[name] = contents(table) | {"seconds": round(seconds, 1)}
    else:
        table, seconds = measured(STEPS, given, FOLDER / "plain")
        print(shown(table))
        for sentence, holds in claims(table, seconds):
            print(f"{'holds' if holds else 'FAILS'}  {sentence}")
        found["plain"] = contents(table) | {"seconds": round(seconds, 1)}
    if options.data:
        about = {"machine": machine(), "jax": jax.__version__, "date": str(date.today())}
        FILE.write_text(json.dumps(about | {"data": options.data.name} | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
