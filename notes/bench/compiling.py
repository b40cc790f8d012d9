"""What a shape costs to compile: whole, layer by layer, and with cheaper settings of XLA.

python notes/bench/compiling.py

Real all-MiniLM-L6-v2, float32, on this machine's CPU. Seconds and CPU seconds of each compilation
(the second one of its kind, since the first also starts the compiler), milliseconds of a run (least
of 15, in turns), and whether the vectors have the bits of the whole program by default.
"""

import os
import time

os.environ["JAXBERT_CACHE"] = "off"

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert import Embedder
from jaxbert.inference import forward
from jaxbert.inference.batches import BatchArrays
from jaxbert.model.head import PoolingHead
from jaxbert.model.transformer import AttentionMetadata

SHAPES = ((1, 32), (4, 128))
SETTINGS = {
    "default": {},
    "no expensive passes": {"xla_llvm_disable_expensive_passes": True},
    "level 1": {"xla_backend_optimization_level": 1},
    "level 0": {"xla_backend_optimization_level": 0},
}


def batch_of(rows, tokens):
    """Random ids, one text in a row."""
    ids = np.random.default_rng(0).integers(1000, 20000, (rows, tokens)).astype(np.int32)
    positions = np.arange(tokens, dtype=np.int32)[None]
    return jax.device_put(BatchArrays(ids, np.ones_like(ids), positions, None))


def whole(model, head, batch, settings):
    """A function without arguments: the vectors by one program."""
    first = jnp.int32(0)
    jitted = jax.jit(lambda model, batch: forward.vectors(model, head, batch, first))
    program = jitted.lower(model, batch).compile(compiler_options=settings)
    return lambda: program(model, batch)


def by_layer(model, head, batch):
    """The same by three programs: the embeddings, one layer for all, and what comes behind."""
    about = (model.position, batch.positions, batch.segments)
    before = jax.jit(lambda part, batch, scheme: part(forward.inputs(batch), scheme))
    step = jax.jit(lambda layer, x, *about: layer(x, AttentionMetadata(*about), model.attention))
    after = jax.jit(lambda norm, x, segments: head(norm(x), segments != 0))
    begin = before.lower(model.embeddings, batch, model.position).compile()
    x = begin(model.embeddings, batch, model.position)
    go_on = step.lower(model.layers[0], x, *about).compile()
    end = after.lower(model.final_norm, x, batch.segments).compile()

    def run():
        x = begin(model.embeddings, batch, model.position)
        for layer in model.layers:
            x = go_on(layer, x, *about)
        return end(model.final_norm, x, batch.segments)

    return run


def main():
    """Print a line for each way and shape."""
    embedder = Embedder.from_pretrained("sentence-transformers/all-MiniLM-L6-v2")
    model, stack = embedder.engine.runner, embedder.stack
    head = PoolingHead(stack.pooling, stack.after)
    ways = {
        f"whole, {name}": lambda batch, own=own: whole(model, head, batch, own)
        for name, own in SETTINGS.items()
    }
    ways["layer by layer"] = lambda batch: by_layer(model, head, batch)
    for way in ways.values():
        way(batch_of(1, 16))
    print(
        "| shape | way | compiling, s | CPU s | a run, ms | same bits |\n|---|---|---|---|---|---|"
    )
    for shape in SHAPES:
        batch, runs, spent = batch_of(*shape), {}, {}
        for name, way in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            runs[name] = way(batch)
            spent[name] = time.perf_counter() - start, time.process_time() - cpu
        seconds = {name: [] for name in ways}
        for _ in range(15):
            for name, run in runs.items():
                start = time.perf_counter()
                np.asarray(run())
                seconds[name].append(time.perf_counter() - start)
        exact = np.asarray(runs["whole, default"]())
        for name, (clock, cpu) in spent.items():
            same = np.array_equal(np.asarray(runs[name]()), exact)
            print(
                f"| {shape[0]} x {shape[1]} | {name} | {clock:.2f} | {cpu:.2f} "
                f"| {1000 * min(seconds[name]):.1f} | {'yes' if same else 'no'} |"
            )


if __name__ == "__main__":
    main()
