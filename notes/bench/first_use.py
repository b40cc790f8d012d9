"""The first lists that a new user embeds: shapes compiled as they come, and coarse ones first.

python notes/bench/first_use.py lists --data mixed.jsonl.gz [--texts 200] [--lists 7] [--cache DIR]
python notes/bench/first_use.py sizes

Real all-MiniLM-L6-v2, float32, lists of other mixed texts each, cut at 512 tokens. A column is a
process of its own, which finds no compiled program, or those of earlier runs with --cache; "warm"
is the first list again, the least of three runs with all its shapes compiled.
sizes: what it costs to compile a shape, beside a token, for random encoders of other sizes.
"""

import argparse
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
from flax import nnx

from jaxbert import Embedder, Encoder, EncoderConfig
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded

SHAPES = ((1, 32), (4, 128), (2, 256), (1, 512))
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


def sizes():
    """Print the seconds of a compilation, and of a token, by the size of the encoder."""
    os.environ["JAXBERT_CACHE"] = "off"
    vocabulary = {"vocab_size": 30522}
    encoders = {
        "BERT, 3 layers of 384": EncoderConfig.bert(**vocabulary, **size(384, 3, 12, 1536)),
        "BERT, 6 layers of 384": EncoderConfig.bert(**vocabulary, **size(384, 6, 12, 1536)),
        "JinaBERT, 4 layers of 512": EncoderConfig.jinabert(**vocabulary, **size(512, 4, 8, 2048)),
        "BERT, 12 layers of 768": EncoderConfig.bert(**vocabulary, **size(768, 12, 12, 3072)),
    }
    tokenizer = Embedder.from_pretrained(hub.installed_package()).tokenizer
    print("| encoder | weights, millions | a shape, s | a token, us | tokens | tokens x weights |")
    print("|---|---|---|---|---|---|")
    for name, config in encoders.items():
        embedder = Embedder(Encoder(config, rngs=nnx.Rngs(0)), tokenizer)
        engine, compiling, running = embedder.engine, [], []
        for rows, length in SHAPES:
            ids = [np.full(length, 999, np.int32)] * rows
            batch = Padded(np.arange(rows), rows, length)
            before = engine.vectors.seconds
            for turn in range(9):
                start = time.perf_counter()
                engine.dispatch(engine.vectors, batch, ids, [0] * rows).rows()
                if turn:
                    running.append((time.perf_counter() - start) / (rows * length))
                else:
                    compiling.append(engine.vectors.seconds - before)
        weights = sum(weight.size for weight in jax.tree.leaves(embedder.encoder.layers))
        shape, token = statistics.median(compiling[1:]), min(running)  # the first starts XLA
        print(
            f"| {name} | {weights / 1e6:.1f} | {shape:.2f} | {1e6 * token:.0f} | "
            f"{shape / token:.0f} | {shape / token * weights:.1e} |"
        )


def size(width, layers, heads, inner):
    """The sizes of an encoder."""
    found = {"hidden_size": width, "num_layers": layers, "num_heads": heads}
    return {**found, "intermediate_size": inner}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("lists", "sizes"))
    parser.add_argument("--data")
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--lists", type=int, default=7)
    parser.add_argument("--cache", default="off", help="a folder of compiled programs")
    parser.add_argument("--child", choices=KINDS, help="for the script's own processes")
    options = parser.parse_args()
    if options.what == "sizes":
        return sizes()
    if options.child:
        return child(options)
    found = {}
    for kind in KINDS:
        told = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--child", kind],
            env={**os.environ, "JAXBERT_CACHE": options.cache},
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
