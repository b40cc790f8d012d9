"""How far a vector moves when its text runs in a batch of another shape, and what bits cost.

python notes/bench/company.py
Prints the largest component-wise and Euclidean difference over batch shapes on real MiniLM, then
the time of deterministic=True against the default, interleaved in one process.
"""

import itertools
import json
import time
from pathlib import Path

import numpy as np

from jaxbert import Embedder, hub
from jaxbert.batches import Padded
from jaxbert.runner import run

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
SHORT = [(1, 16), (2, 16), (4, 16), (8, 16), (32, 16), (1, 32), (2, 32), (1, 48), (1, 64), (8, 64)]
LONG = [(1, 256), (2, 256), (4, 256), (16, 256), (1, 384), (4, 384), (1, 512)]
ROUNDS = 7


def vectors(embedder, tokens, rows, length):
    found = np.zeros((len(tokens), 384), np.float32)
    starts = range(0, len(tokens), rows)
    batches = [Padded(np.arange(i, min(i + rows, len(tokens))), rows, length) for i in starts]
    jobs = ((batch.members, batch.fill(tokens)) for batch in batches)
    for members, result in run(embedder.engine.vectors, jobs, np.array(0, np.int32)):
        found[members] = result
    return found


def company(embedder, texts, shapes):
    longest = min(length for _, length in shapes)
    tokens = [
        ids for ids in embedder.tokenizer(texts, embedder.max_seq_length) if len(ids) <= longest
    ]
    found = {shape: vectors(embedder, tokens, *shape) for shape in shapes}
    pairs = [a - b for a, b in itertools.combinations(found.values(), 2)]
    component = max(np.abs(d).max() for d in pairs)
    norm = max(np.linalg.norm(d, axis=1).max() for d in pairs)
    print(
        f"{len(tokens)} texts of up to {max(map(len, tokens))} tokens, {len(shapes)} shapes: "
        f"largest component of a difference {component:.1e}, Euclidean norm {norm:.1e}"
    )


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
    texts = json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))
    default = Embedder.from_pretrained(hub.installed_package())
    company(default, texts, SHORT)
    company(default, texts, LONG)
    fixed = Embedder.from_pretrained(hub.installed_package(), deterministic=True)
    cost("one short text", texts[:1], default, fixed)
    cost("22 texts of all lengths", texts, default, fixed)
    cost("352 texts of all lengths", texts * 16, default, fixed)
