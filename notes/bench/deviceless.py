"""Peak memory of the base JinaBERT compiled for chips that are not here: 8 texts of 8192 tokens.

python notes/bench/deviceless.py      (in the environment that `make deviceless` makes)
bfloat16, ALiBi, random shapes only: nothing is executed. The compilers are those of the tests in
tests/deviceless. A program that the compiler refuses is printed with what it would need.
"""

import os
import re
import sys
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.encoder import Encoder
from jaxbert.model.attention import ATTENTIONS
from tests.deviceless import conftest, test_gpu, test_tpu

ROWS, LENGTH = 8, 8192


def empty(name):
    """The base model with one kind of attention, as shapes."""
    attention = ATTENTIONS[name]
    return jax.eval_shape(lambda: Encoder(test_tpu.BASE, rngs=nnx.Rngs(0), attention=attention))


def on_tpu(target, name):
    """The compiled program for one TPU."""
    encoder = test_tpu.on(None, empty(name), jnp.bfloat16)
    return test_tpu.compiled(Encoder.forward, (encoder, test_tpu.texts(ROWS, LENGTH)), target)


def on_h100(name):
    """The compiled program for one H100."""
    mesh = test_gpu.h100(1)
    _, inputs = test_gpu.base_model(mesh, ROWS, LENGTH)
    encoder = test_gpu.placed(mesh, empty(name), jnp.bfloat16)
    return test_gpu.compiled(mesh, Encoder.forward, encoder, inputs)


def peak(compile_program):
    """Peak memory in words; what the compiler says where it refuses."""
    try:
        found = compile_program().memory_analysis().peak_memory_in_bytes
    except jax.errors.JaxRuntimeError as error:
        needs = re.search(r"\(([\d.]+\w)\) exceeds", str(error))
        return f"refused: {needs[1] if needs else 'out of memory'}"
    return f"{found / 2**30:.2f} GiB"


if __name__ == "__main__":
    assert conftest  # tells libtpu that there is no machine to look for
    print(f"jax {jax.__version__}\n| | kernel | blockwise | dense |\n|---|---|---|---|")
    for target in test_tpu.TARGETS:
        cells = [peak(lambda n=n, t=target: on_tpu(t, n)) for n in ("tpu", "blockwise", "dense")]
        print(f"| TPU {target[:3]} | {' | '.join(cells)} |", flush=True)
    cells = [peak(lambda n=n: on_h100(n)) for n in ("gpu", "blockwise", "dense")]
    print(f"| H100 | {' | '.join(cells)} |")
