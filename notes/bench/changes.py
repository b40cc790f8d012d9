"""What each change for the CPU brings: the encoder as it is, and with one change taken back.

python notes/bench/changes.py [--dtype float32] [--rounds 15]
Real all-MiniLM-L6-v2, full batches of random words, all variants interleaved in one process.
"""

import argparse
import time
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import Precision

from jaxbert import Embedder
from jaxbert.checkpoint import hub
from jaxbert.inference.batches import Padded
from jaxbert.inference.forward import vectors
from jaxbert.inference.programs import Program
from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.attention import attend, dense
from jaxbert.model.attention.dense import LOWEST, attention_mask
from jaxbert.model.head import PoolingHead
from jaxbert.model.layers import Projection
from jaxbert.model.transformer import SelfAttention

SHAPES = [(1, 16), (16, 32), (4, 128), (2, 256)]
product = partial(jnp.einsum, precision=Precision.HIGHEST, preferred_element_type=jnp.float32)


def chosen(q, k, v, bias, positions, segments):
    """Attention whose mask is chosen twice, not added once."""
    seen = attention_mask(segments)
    scores = jnp.where(seen, product("bnth,bnsh->bnts", q, k) * q.shape[-1] ** -0.5, LOWEST)
    weights = jnp.where(seen, jnp.exp(scores - scores.max(axis=-1, keepdims=True)), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    context = product("bnts,bnsh->bnth", weights.astype(v.dtype), v)
    return (context / jnp.where(total == 0.0, 1.0, total)).astype(q.dtype)


def heads_in_one_einsum(self, x, metadata):
    """Queries, keys and values, each laid out by the einsum that computes it."""

    def project(projection):
        y = product("btd,dnh->bnth", x, projection.weight[...])
        return (y + projection.bias[...].astype(jnp.float32)[None, :, None, :]).astype(x.dtype)

    return tuple(map(project, (self.query, self.key, self.value)))


def by_einsum(self, x):
    """A projection by jnp.einsum, which sums over n and h in alphabetical order."""
    y = product(self.spec, x, self.weight[...])
    return y if self.bias is None else y + self.bias[...].astype(jnp.float32)[None, None]


# What is another method while a variant is traced.
METHODS = {
    "projection and layout in one einsum": (SelfAttention, "heads", heads_in_one_einsum),
    "heads summed in the order h, n": (Projection, "__call__", by_einsum),
}


def variants(dtype):
    """Programs by name."""

    def parts(attention=attend):
        embedder = Embedder.from_pretrained(
            hub.installed_package(), dtype=dtype, attention=attention
        )
        return embedder.encoder, PoolingHead(embedder.stack.pooling, embedder.stack.after)

    def program(encoder, head):
        return Program(vectors, Unrolled(encoder), head)

    erfc, head = parts()
    erfc.layers.feed_forward.activation = partial(jax.nn.gelu, approximate=False)
    return {
        "as it is": program(*parts()),
        "attention by products of four axes": program(*parts(dense)),
        "layers in a scan": Program(vectors, *parts()),
        "projection and layout in one einsum": program(*parts()),
        "heads summed in the order h, n": program(*parts()),
        "mask by `where`, not added": program(*parts(chosen)),
        "gelu through erfc": program(erfc, head),
    }


def compile_all(programs, arrays):
    for name, program in programs.items():
        jax.clear_caches()  # a layer traced for another variant must not be taken
        with patch.object(*METHODS[name]) if name in METHODS else nullcontext():
            program(*arrays).block_until_ready()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    programs = variants(options.dtype)
    table = {name: [] for name in programs}
    for b, t in SHAPES:
        words = np.random.default_rng(0).integers(1000, 30000, (b, t)).astype(np.int32)
        arrays = (Padded(np.arange(b), b, t).fill(list(words)), np.array(0, np.int32))
        compile_all(programs, arrays)
        seconds = {name: [] for name in programs}
        for _ in range(options.rounds * (5 if b == 1 else 1)):
            for name, program in programs.items():
                start = time.perf_counter()
                program(*arrays).block_until_ready()
                seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            table[name].append(f"{1e3 * min(times):.1f}")
    print(f"| {options.dtype}, ms | {' | '.join(f'{b} x {t}' for b, t in SHAPES)} |")
    print("|---" * (len(SHAPES) + 1) + "|")
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
