"""Trained at 64 characters, read at 1024: which position schemes still find masked characters?

python notes/bench/extrapolation.py [--data mixed.jsonl.gz] [--seeds 3] [--special]

Four schemes are trained by `jaxbert lab extrapolate`, as many processes at a time as there are
cores, each with one thread. Learned positions get four times the steps of the others, for they
need a thousand to begin with. What is in build/bench already is not computed again unless
`--anew` is given; the time of the whole is only known where nothing was there. The claims, of each
seed, are about the accuracy at 16 times the trained length, by that at the trained one. `--special`
trains symmetric ALiBi with [CLS] before each row, and with [CLS] and [SEP] around it.

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


def lab(scheme, options, folder):
    """One process of the command, with one thread; its CPU seconds are added to the folder's."""
    command = [sys.executable, "-m", "jaxbert.cli", "lab", "extrapolate", "--scheme", scheme]
    one = {"PJRT_NPROC": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [*command, *options, "-o", str(folder)], env=os.environ | one, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"{scheme} failed")
    spent = folder / "cpu_seconds"
    before = float(spent.read_text()) if spent.exists() else 0.0
    spent.write_text(str(before + used.ru_utime + used.ru_stime))


def measured(schemes, options, folder, anew):
    """The table of all schemes as JSON, what it took, and whether it was all computed now."""
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
    whole = not folder.exists()
    begun = time.monotonic()

    def one(scheme):
        own = folder / scheme
        lab(scheme, [*options, "--steps", str(STEPS[scheme])], own)
        return read(own / "extrapolation.json")

    with ThreadPoolExecutor(cores()) as pool:
        tables = list(pool.map(one, schemes))
    seconds = time.monotonic() - begun if whole else None
    cpu = sum(float((folder / scheme / "cpu_seconds").read_text()) for scheme in schemes)
    results = tuple(result for table in tables for result in table.results)
    table = tables[-1]._replace(results=results)
    return table, {"cpu_seconds": round(cpu), "seconds": seconds and round(seconds)}


def markdown(table):
    """The lines of the chapter's table: levels in percent, and the ratio of every seed."""
    first, last = table.lengths[0], table.lengths[-1]
    head = ["accuracy % at", *map(str, table.lengths), "steps", f"{last} / {first} by seed"]
    rows = [head, ["---"] * len(head)]
    for line in table.lines():
        levels = [f"{100 * line.levels[length].mean:.1f}" for length in table.lengths]
        ratios = ", ".join(f"{ratio(own, last, first):.2f}" for own in line.results)
        rows.append([line.scheme, *levels, f"{line.results[0].steps:,}", ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def claims(table, took):
    """A sentence for each claim, and whether it holds."""
    longest, first = table.lengths[-1], table.lengths[0]
    for line in table.lines():
        side, bound = CLAIMS[line.scheme]
        ratios = [ratio(own, longest, first) for own in line.results]
        holds = min(ratios) >= bound if side == "at least" else max(ratios) <= bound
        each = ", ".join(f"{own:.3f}" for own in ratios)
        yield f"{line.scheme}: {each} of the accuracy at 1x, {side} {bound}", holds
    for name, limit in (("cpu_seconds", 120 * MINUTES), ("seconds", 60 * MINUTES)):
        if took[name] is not None:
            yield f"{took[name]} {name}, at most {limit}", took[name] <= limit


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--special", action="store_true", help="only the runs with [CLS], [SEP]")
    parser.add_argument("--anew", action="store_true", help="compute also what is there")
    options = parser.parse_args()
    texts = novels(options.data) if options.data else []
    given = [*texts, *HOW, "--seeds", str(options.seeds)]
    found = {}
    if options.special:
        for name in ("cls", "both"):
            own = [*given, "--special", name]
            table, took = measured(("alibi",), own, FOLDER / name, options.anew)
            print(f"\n{name}\n{shown(table)}\n\n{markdown(table)}")
            found[name] = contents(table) | took
    else:
        table, took = measured(STEPS, given, FOLDER / "plain", options.anew)
        print(f"{shown(table)}\n\n{markdown(table)}\n")
        for sentence, holds in claims(table, took):
            print(f"{'holds' if holds else 'FAILS'}  {sentence}")
        found["plain"] = contents(table) | took
    if options.data:
        found = (json.loads(FILE.read_text()) if FILE.exists() else {}) | found
        about = {"machine": machine(), "jax": jax.__version__, "date": str(date.today())}
        FILE.write_text(json.dumps(found | about | {"data": options.data.name}, indent=1) + "\n")


if __name__ == "__main__":
    main()
