"""One text -> one vector of all-MiniLM-L6-v2 in plain JAX: the least that a start-up can be.

python notes/bench/minimal.py FOLDER TEXT [CACHE]      (CACHE: a folder for compiled programs)
Prints the vector. It reads this one model only, checks nothing, and knows no batches.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HEADS, LONGEST = 6, 12, 256


def product(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-12)
    return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]


def layer(x, w, bias):
    def heads(name):
        return product(x, w, f"attention.self.{name}").reshape(len(x), HEADS, -1)

    scores = jnp.einsum("qhd,khd->hqk", heads("query"), heads("key"))
    weights = jax.nn.softmax(scores / np.sqrt(x.shape[1] / HEADS) + bias)
    context = jnp.einsum("hqk,khd->qhd", weights, heads("value")).reshape(x.shape)
    x = norm(x + product(context, w, "attention.output.dense"), w, "attention.output")
    up = jax.nn.gelu(product(x, w, "intermediate.dense"), approximate=False)
    return norm(x + product(up, w, "output.dense"), w, "output")


@jax.jit
def vector(outer, layers, ids, mask):
    word, place, kind = (
        outer[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    x = norm(word[ids] + place[: len(ids)] + kind[0], outer, "embeddings")
    bias = jnp.where(mask, 0.0, -1e9)
    x, _ = jax.lax.scan(lambda x, w: (layer(x, w, bias), None), x, layers)
    mean = (x * mask[:, None]).sum(0) / mask.sum()
    return mean / jnp.linalg.norm(mean)


def main(folder, text, cache=None):
    if cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    w = load_file(Path(folder) / "model.safetensors")
    outer = {k: w[k] for k in w if k.startswith("embeddings") and w[k].dtype == np.float32}
    names = [k.removeprefix("encoder.layer.0.") for k in w if k.startswith("encoder.layer.0.")]
    layers = {k: np.stack([w[f"encoder.layer.{i}.{k}"] for i in range(LAYERS)]) for k in names}
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    own = tokenizer.encode(text).ids
    ids = np.zeros(-(-len(own) // 16) * 16, np.int32)
    ids[: len(own)] = own
    found = vector(outer, layers, ids, np.arange(len(ids)) < len(own))
    print(json.dumps(np.asarray(found).tolist()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
