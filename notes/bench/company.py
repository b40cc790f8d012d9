"""How far a vector moves when its text runs in a batch of another shape, and what bits cost.

PYTHONPATH=. python notes/bench/company.py
(XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 is an older processor)
Prints the largest difference of a component between any two batch shapes, as a share of the
vector's norm, for real MiniLM, the golden folders and small random models with each pooling.
PYTHONPATH=. python notes/bench/company.py cost
Prints the time of deterministic=True against the default, interleaved in one process.
"""

import itertools
import json
import sys
import time
import warnings

import numpy as np

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensors import UnverifiedModelWarning, open_folder
from jaxbert.inference.batches import Padded
from jaxbert.inference.coarse_first import finest
from jaxbert.inference.engine import Engine
from jaxbert.inference.packing import Packing
from jaxbert.inference.planning import ByLength
from jaxbert.inference.programs import run_jobs
from jaxbert.model.head import POOLINGS, Pooling
from tests.models import CONFIGS, FOLDERS, GOLDEN, make

SHORT = [(1, 16), (2, 16), (4, 16), (8, 16), (32, 16), (1, 32), (2, 32), (1, 48), (1, 64), (8, 64)]
LONG = [(1, 256), (2, 256), (4, 256), (16, 256), (1, 384), (4, 384), (1, 512)]
SMALL = [(1, 16), (3, 16), (64, 16), (1, 18), (32, 18)]
SHARED = ByLength(packing=Packing(longest=11, length=23, texts=3))
TEXTS, SEEDS = 600, 3
ROUNDS = 7


def rows_of(tokens, rows, length):
    """Batches of one shape."""
    starts = range(0, len(tokens), rows)
    return [Padded(np.arange(i, min(i + rows, len(tokens))), rows, length) for i in starts]


def vectors(engine, tokens, batches):
    found = [None] * len(tokens)
    jobs = ((batch.members, batch.fill(tokens)) for batch in batches)
    for members, result in run_jobs(engine.vectors, jobs, np.array(0, np.int32)):
        for member, row in zip(members, result, strict=False):
            found[member] = row
    return np.stack(found).astype(np.float64)


def shares(engine, tokens, plans, parts=1):
    """[texts, parts]: the largest move of a component over the plans, by the part's norm.

    parts: how many vectors stand side by side, one for each pooling.
    """
    found = [np.stack(np.split(vectors(engine, tokens, plan), parts, axis=1), 1) for plan in plans]
    norm = np.linalg.norm(found[0], axis=-1)
    moves = (np.abs(a - b).max(axis=-1) for a, b in itertools.combinations(found, 2))
    return np.max(list(moves), axis=0) / norm


def say(name, found):
    beyond = ", ".join(f"{(found > x).sum()} above {x:.0e}" for x in (5e-7, 1e-6, 2e-6))
    print(f"{name}: {found.max():.1e} of the norm; of {found.size} vectors {beyond}", flush=True)
    return found.max()


def real(name, texts, shapes):
    longest = min(length for _, length in shapes)
    embedder = Embedder.from_pretrained(hub.installed_package())
    tokens = [ids for ids in embedder.tokenizer(texts, 256) if len(ids) <= longest]
    return say(name, shares(embedder.engine, tokens, [rows_of(tokens, *s) for s in shapes]))


def random_texts(encoder):
    random = np.random.default_rng(0)
    lengths = random.integers(1, 17, TEXTS)
    return [random.integers(0, encoder.config.vocab_size, n).astype(np.int32) for n in lengths]


def small(name, encoders):
    """All poolings side by side, one program for each shape."""
    found = []
    for encoder in encoders:
        engine = Engine(encoder, Stack(Pooling(tuple(POOLINGS))))
        tokens = random_texts(encoder)
        plans = [rows_of(tokens, *shape) for shape in SMALL]
        plans.append(SHARED.plan([len(ids) for ids in tokens]))
        found.append(shares(engine, tokens, plans, len(POOLINGS)))
    return say(name, np.concatenate(found))


def company(texts):
    print(f"{len(SMALL) + 1} plans of batches for small models, {', '.join(POOLINGS)}")
    worst = [real("MiniLM, short texts", texts, SHORT), real("MiniLM, all texts", texts, LONG)]
    for folder in FOLDERS:
        worst.append(small(folder.name, [Encoder.from_checkpoint(open_folder(folder))]))
    for name, config in CONFIGS.items():
        worst.append(small(f"random {name}", [make(config, seed) for seed in range(SEEDS)]))
    print(f"largest of all: {max(worst):.1e}")


def cost(name, texts, default, fixed):
    times = {embedder: [] for embedder in (default, fixed)}
    for embedder in times:
        embedder.encode(texts)  # compiles
    for _ in range(ROUNDS):
        for embedder, seen in times.items():
            start = time.perf_counter()
            embedder.encode(texts)
            seen.append(time.perf_counter() - start)
    a, b = (min(seen) for seen in times.values())
    print(f"{name}: default {1e3 * a:.1f} ms, deterministic {1e3 * b:.1f} ms, ratio {b / a:.2f}")


if __name__ == "__main__":
    warnings.simplefilter("ignore", UnverifiedModelWarning)
    texts = json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))
    if "cost" not in sys.argv[1:]:
        company(texts)
    else:
        default, fixed = (
            Embedder.from_pretrained(hub.installed_package(), deterministic=given)
            for given in (False, True)
        )
        default.engine.planner = finest(default.planner)
        cost("one short text", texts[:1], default, fixed)
        cost("22 texts of all lengths", texts, default, fixed)
        cost("352 texts of all lengths", texts * 16, default, fixed)
