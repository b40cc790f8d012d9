"""What two decisions about speed cost in accuracy: gelu through erf, and bfloat16.

python notes/bench/accuracy.py        (JAXBERT_DATA=folder adds the STS benchmark)
Real all-MiniLM-L6-v2: largest component of the difference of normalised vectors from the float64
reference, on the stored texts; then cosine and Spearman of bfloat16 beside float32.
"""

import json
import os
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.tensors import open_folder, read_tensors
from jaxbert.model import activations, reference

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
FORMS = {"erf": activations.gelu, "erfc": partial(jax.nn.gelu, approximate=False)}


def error_of(gelu):
    """The largest error of one float32 gelu on [-8, 8]."""
    x = np.linspace(-8, 8, 1_000_001).astype(np.float32)
    return np.abs(np.asarray(gelu(jnp.asarray(x))) - reference.gelu(x.astype(np.float64))).max()


def exact(texts, embedder):
    """The reference's normalised vectors, text by text."""
    stored = open_folder(hub.installed_package())
    tensors = read_tensors(stored)
    found = []
    for ids in embedder.tokenizer(texts, embedder.max_seq_length):
        mask = np.ones_like(ids)[None]
        states = reference.encode(tensors, stored.raw, ids[None], mask)
        vector = reference.mean_pool(states[-1], mask)[0]
        found.append(vector / np.linalg.norm(vector))
    return np.stack(found)


def with_gelu(form, dtype="float32"):
    """An embedder whose activation is one of the forms."""
    embedder = Embedder.from_pretrained(hub.installed_package(), dtype=dtype)
    embedder.encoder.layers.feed_forward.activation = form
    return Embedder(embedder.encoder, embedder.tokenizer, embedder.stack)


def sts(folder):
    lines = (Path(folder) / "stsbenchmark-test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = {}
    for dtype in ("float32", "bfloat16"):
        embedder = Embedder.from_pretrained(hub.installed_package(), dtype=dtype)
        found[dtype] = [
            embedder.encode([row[key] for row in rows]) for key in ("sentence1", "sentence2")
        ]
        a, b = found[dtype]
        score = spearmanr((a * b).sum(1), [row["score"] for row in rows]).statistic
        print(f"STS benchmark (test), {dtype}: Spearman x 100 {100 * score:.4f}")
    cosines = [(a * b).sum(1) for a, b in zip(*found.values(), strict=True)]
    print(f"least cosine of bfloat16 to float32: {np.concatenate(cosines).min():.6f}")


def main():
    texts = json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))
    truth = exact(texts, with_gelu(activations.gelu))
    print("| gelu | error | vectors, float32 | vectors, bfloat16 |")
    print("|---|---|---|---|")
    for name, form in FORMS.items():
        cells = [
            np.abs(with_gelu(form, dtype).encode(texts) - truth).max()
            for dtype in ("float32", "bfloat16")
        ]
        print(f"| {name} | {error_of(form):.1e} | {' | '.join(f'{cell:.1e}' for cell in cells)} |")
    if "JAXBERT_DATA" in os.environ:
        sts(os.environ["JAXBERT_DATA"])


if __name__ == "__main__":
    main()
