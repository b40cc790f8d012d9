"""Exact search: jaxbert.search beside sentence-transformers' and faiss' flat index.

    python notes/bench/search.py [--rows 100000] [--width 384] [--rounds 3]

Unit vectors, dot products, k = 10; all engines in one process with all its threads, in turns, after
their answers were compared. The figure is the median of the rounds; the corpus is in memory as each
engine wants it (an array, a tensor, an index). Needs torch, sentence-transformers and faiss-cpu.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from sentence_transformers import util

from jaxbert import quantize_embeddings
from jaxbert.corpus.processor import processor
from jaxbert.search import Bits, top_k

K = 10


def unit(rows, width, seed):
    """Random unit vectors."""
    x = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def engines(corpus):
    """Each engine: queries -> rows [q, k]."""
    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    tensor, bits = torch.from_numpy(corpus), Bits(quantize_embeddings(corpus, "ubinary"))

    def theirs(queries):
        found = util.semantic_search(
            torch.from_numpy(queries), tensor, top_k=K, score_function=util.dot_score
        )
        return np.array([[row["corpus_id"] for row in own] for own in found])

    return {
        "jaxbert": lambda queries: top_k(queries, corpus, K, similarity="dot")[1],
        "sentence-transformers": theirs,
        "faiss": lambda queries: index.search(queries, K)[1],
        "jaxbert, bits": lambda queries: top_k(queries, bits, K, similarity="dot", rescore=corpus)[
            1
        ],
    }


def timed(call, queries):
    """Seconds of one call."""
    start = time.perf_counter()
    call(queries)
    return time.perf_counter() - start


def main():
    """Compare, measure, print and write build/bench/search.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--queries", type=int, nargs="*", default=[1, 16, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    corpus = unit(options.rows, options.width, 0)
    calls = engines(corpus)
    results = {"processor": processor(), "rows": options.rows, "seconds": {}}
    for number in options.queries:
        queries = unit(number, options.width, 1)
        # The first calls compile and load, and show that the answers are the same.
        answers = {name: call(queries) for name, call in calls.items()}
        for name in ("sentence-transformers", "faiss"):
            same = (np.sort(answers[name]) == np.sort(answers["jaxbert"])).mean()
            assert same > 0.9999, f"{name} finds other rows"
        seconds = {name: [] for name in calls}
        for _ in range(options.rounds):
            for name, call in calls.items():
                seconds[name].append(timed(call, queries))
        found = {name: statistics.median(own) for name, own in seconds.items()}
        results["seconds"][number] = found
        print(number, {name: round(own, 4) for name, own in found.items()})
        sys.stdout.flush()
    out = Path("build/bench/search.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
