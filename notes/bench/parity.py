"""Prints the parity table of the README and of notes/02-parity.md.

PYTHONPATH=. python notes/bench/parity.py    (JAXBERT_DATA=folder adds the STS benchmark;
                                    XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 is an older processor)
States are compared as shares of the layer's largest, vectors as shares of their norm.
"""

import json
import os
import warnings
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.tensors import UnverifiedModelWarning, open_folder, read_tensors
from jaxbert.model import reference
from jaxbert.verify.compare import compare
from tests.models import ALL_FOLDERS, GOLDEN


def largest(ours, theirs, mask):
    """The largest difference of two lists of states, over the largest state of its layer."""
    return max(row.relative for row in compare(ours, theirs, mask))


def golden(folder: Path) -> str:
    stored = open_folder(folder)
    encoder, held = Encoder.from_checkpoint(stored), load_file(folder / "golden.safetensors")
    ids, mask, types = held["input_ids"], held["attention_mask"], held.get("token_type_ids")
    torch = [held[f"hidden.{i}"] for i in range(stored.config.num_layers + 1)]
    exact = reference.encode(read_tensors(stored), stored.raw, ids, mask, types)
    ours, valid = encoder.hidden_states(ids, mask, types), mask.astype(bool)
    cells = [largest(a, b, valid) for a, b in ((exact, torch), (ours, torch), (ours, exact))]
    return f"| {folder.name} | " + " | ".join(f"{cell:.1e}" for cell in cells) + " |"


def minilm() -> str:
    texts = json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))
    stored = load_file(GOLDEN / "minilm" / "golden.safetensors")["vectors"]
    embedder = Embedder.from_pretrained(hub.installed_package())
    worst = (np.abs(embedder.encode(texts) - stored).max(1) / np.linalg.norm(stored, axis=1)).max()
    return f"all-MiniLM-L6-v2, {len(texts)} texts, against sentence-transformers: {worst:.1e}"


def sts(folder: str) -> str:
    lines = (Path(folder) / "stsbenchmark-test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    embedder = Embedder.from_pretrained(hub.installed_package())
    a, b = (embedder.encode([row[key] for row in rows]) for key in ("sentence1", "sentence2"))
    score = spearmanr((a * b).sum(1), [row["score"] for row in rows]).statistic
    return f"STS benchmark (test), Spearman x 100: {100 * score:.4f}"


if __name__ == "__main__":
    warnings.simplefilter("ignore", UnverifiedModelWarning)
    print("| golden folder | reference - torch | encoder - torch | encoder - reference |")
    print("|---|---|---|---|")
    for folder in ALL_FOLDERS:
        print(golden(folder))
    print(minilm())
    if "JAXBERT_DATA" in os.environ:
        print(sts(os.environ["JAXBERT_DATA"]))
