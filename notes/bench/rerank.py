"""Pairs scored by jaxbert's CrossEncoder beside sentence-transformers' and ONNX Runtime.

python notes/bench/rerank.py --data mixed.jsonl.gz [--queries 20] [--documents 50] [--rounds 5]

The data is JSON lines with "kind" and "text": each query is paired with the same abstracts of
scientific papers, as a reranker meets them. The model has the sizes of ms-marco-MiniLM-L6-v2: the
weights of all-MiniLM-L6-v2 under a classifier of one label that is drawn at random. A time is that
of pairs -> float32 scores, tokenisation included; pairs are cut at 512 tokens.

The engines are processes that take turns, as in peers.py. sentence-transformers gets its best batch
size of three, ONNX Runtime its best budget of tokens for batches sorted by length, on the fused
graph, without padding beyond the longest of a batch; jaxbert runs with its defaults. All scores are
compared with those of sentence-transformers first. Needs the extras parity and bench.
"""

import argparse
import gzip
import json
import os
import statistics
from pathlib import Path

import numpy as np
from peers import SPAWN, Worker, about
from peers_models import (
    BUDGETS,
    INPUTS,
    LAYERS,
    ROOT,
    WIDTH,
    by_budget,
    complete,
    cores,
    serve_engine,
)

from jaxbert.checkpoint import hub

FOLDER = ROOT / "build" / "bench" / "reranker"
GRAPH = FOLDER / "fused.onnx"
MOST = 512  # tokens of a pair
FILE = Path(__file__).with_name("rerank.json")
TUNING = 64  # pairs on which options are compared
NEAREST = {"f32": 1e-5, "bf16": 0.05}  # the largest difference, as a share of the scores' spread


def make():
    """The folder and the fused graph, in a process of its own, for it loads torch."""
    import torch
    import transformers
    from onnxruntime.transformers import optimizer

    transformers.logging.set_verbosity_error()
    base = hub.installed_package()
    torch.manual_seed(0)
    kind = transformers.BertForSequenceClassification
    model = kind.from_pretrained(base, num_labels=1, attn_implementation="eager").eval()
    with torch.no_grad():
        model.classifier.weight.mul_(
            100.0
        )  # so that scores differ by some units, as published ones
    model.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    model.save_pretrained(FOLDER)
    transformers.AutoTokenizer.from_pretrained(base, model_max_length=MOST).save_pretrained(FOLDER)
    ids, plain = torch.ones((2, 16), dtype=torch.int64), FOLDER / "plain.onnx"
    with torch.no_grad():
        torch.onnx.export(
            model,
            (ids, ids, torch.zeros_like(ids)),
            str(plain),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in INPUTS}
            | {"logits": {0: "rows"}},
            opset_version=17,
            dynamo=False,
        )
    fused = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=12, hidden_size=WIDTH, opt_level=1
    )
    found = fused.get_fused_operator_statistics()
    if found.get("Attention") != LAYERS or found.get("SkipLayerNormalization") != 2 * LAYERS:
        raise SystemExit(f"the graph is not fused as expected: {found}")
    complete(GRAPH, lambda part: fused.save_model_to_file(str(part)))


# --- the engines ---------------------------------------------------------------------------------


class SentenceTransformers:
    """sentence-transformers' CrossEncoder as it comes; tuned by its batch size."""

    options = (16, 32, 64)

    def __init__(self, folder):
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(cores())
        self.model = CrossEncoder(str(folder), device="cpu")

    def score(self, pairs, option):
        """The scores [n] of all pairs."""
        return self.model.predict(pairs, batch_size=option, show_progress_bar=False)


class OnnxRuntime:
    """ONNX Runtime on the fused graph; tuned by the tokens of a batch."""

    options = BUDGETS

    def __init__(self, folder):
        import onnxruntime
        from tokenizers import Tokenizer

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = cores()
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(GRAPH), settings, providers=providers)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MOST)

    def score(self, pairs, option):
        """The scores [n] of all pairs, the longest first."""
        tokens = self.tokenizer.encode_batch_fast(pairs)
        found = np.empty(len(pairs), np.float32)
        for members in by_budget([len(own.ids) for own in tokens], option):
            found[members] = self.session.run(None, padded([tokens[i] for i in members]))[0][:, 0]
        return found


def padded(tokens):
    """The inputs of the graph, padded to the longest pair and no further."""
    shape = len(tokens), max(len(own.ids) for own in tokens)
    ids, mask, types = (np.zeros(shape, np.int64) for _ in INPUTS)
    for row, own in enumerate(tokens):
        ids[row, : len(own.ids)], types[row, : len(own.ids)] = own.ids, own.type_ids
        mask[row, : len(own.ids)] = 1
    return dict(zip(INPUTS, (ids, mask, types), strict=True))


class Jaxbert:
    """jaxbert's CrossEncoder; nothing is tuned."""

    options = ("defaults",)

    def __init__(self, folder, **settings):
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        from jaxbert import CrossEncoder
        from jaxbert.inference.coarse_first import finest

        self.model = CrossEncoder.from_pretrained(folder, **settings)
        self.model.engine.planner = finest(self.model.planner)

    def score(self, pairs, option):
        """The scores [n] of all pairs."""
        return self.model.predict(pairs)


ENGINES = {
    "sentence-transformers": ("f32", SentenceTransformers),
    "ONNX Runtime": ("f32", OnnxRuntime),
    "jaxbert": ("f32", Jaxbert),
    "jaxbert, deterministic": ("f32", lambda folder: Jaxbert(folder, deterministic=True)),
    "jaxbert bf16": ("bf16", lambda folder: Jaxbert(folder, dtype="bfloat16")),
}
REFERENCE, OURS = "sentence-transformers", "jaxbert"


def serve(name, folder, pipe):
    """Answer the calls of one engine."""
    serve_engine(ENGINES[name][1], folder, pipe)


# --- what is measured ----------------------------------------------------------------------------


def pairs_of(data, queries, documents):
    """Every query with every document, the first of each kind in the file."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    kinds = {
        kind: [row["text"] for row in rows if row["kind"] == kind] for kind in ("query", "abstract")
    }
    return [(q, d) for q in kinds["query"][:queries] for d in kinds["abstract"][:documents]]


def tune(worker, options, pairs):
    """The fastest option for these pairs; each runs once before it is timed."""
    if len(options) == 1:
        return options[0]
    times = {option: min(worker.ask("score", pairs, option, calls=2)[0]) for option in options}
    return min(times, key=times.get)


def prepare(workers, pairs):
    """{engine: its best option, the seconds of its first pass, how far its scores are off}."""
    found, wanted, few = {}, None, pairs[:: max(1, len(pairs) // TUNING)]
    for name, worker in workers.items():
        dtype, kind = ENGINES[name]
        best = tune(worker, getattr(kind, "options", ("defaults",)), few)
        (first,), scores = worker.ask("score", pairs, best)
        wanted = scores if wanted is None else wanted  # the first engine is the reference
        difference = float(np.abs(scores - wanted).max())
        if not difference <= NEAREST[dtype] * float(np.ptp(wanted)):
            raise SystemExit(f"{name}: a score differs by {difference:.1e} from {REFERENCE}'s")
        found[name] = {"option": best, "first": first, "difference": difference, "seconds": []}
    return found


def run(options):
    """The figures of all engines, as a dict that is written as JSON."""
    if not GRAPH.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        maker = SPAWN.Process(target=make)
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the model and its graph could not be made")
    pairs = pairs_of(options.data, options.queries, options.documents)
    workers = {name: Worker(name, FOLDER, serve) for name in options.engines.split(",")}
    figures = about(options) | {"pairs": len(pairs), "engines": prepare(workers, pairs)}
    names = list(workers)
    for turn in range(options.rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            own = figures["engines"][name]
            own["seconds"] += workers[name].ask("score", pairs, own["option"])[0]
    for worker in workers.values():
        worker.close()
    options.output.write_text(json.dumps(figures, indent=1) + "\n")
    return figures


def show(figures):
    """Print the table as Markdown."""
    engines = figures["engines"]
    ours = engines[OURS]["seconds"]
    print(f"{figures['pairs']} pairs\n")
    print(
        "| engine | batches | s, least | s, median | pairs/s | ratio of least | ratio of medians "
        "| first pass, s | largest difference |"
    )
    print("|---" * 9 + "|")
    for name, own in engines.items():
        least, median = min(own["seconds"]), statistics.median(own["seconds"])
        print(
            f"| {name} | {own['option']} | {least:.2f} | {median:.2f} "
            f"| {figures['pairs'] / least:.0f} | {least / min(ours):.2f} "
            f"| {median / statistics.median(ours):.2f} | {own['first']:.1f} "
            f"| {own['difference']:.1e} |"
        )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data", type=Path, help="queries and abstracts, JSON lines, gzipped")
    options.add_argument("--queries", type=int, default=20)
    options.add_argument("--documents", type=int, default=50)
    options.add_argument("--engines", default=",".join(ENGINES), help="default: %(default)s")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--output", type=Path, default=FILE, help="where the figures go, as JSON")
    options.add_argument("--show", action="store_true", help="print the table of the output again")
    given = options.parse_args()
    if not given.show and given.data is None:
        options.error("--data is needed")
    show(json.loads(given.output.read_text()) if given.show else run(given))
