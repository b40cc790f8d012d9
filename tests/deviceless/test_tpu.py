"""The kernel and a whole encoder, compiled for TPUs by the TPU's own compiler, without a TPU.

python -m pytest -m deviceless tests/deviceless
This finds what the interpreter cannot: layouts, memory, partitioning. Nothing is executed.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from jaxbert.encoder import Encoder
from jaxbert.model.attention.tpu import tpu
from jaxbert.model.config import EncoderConfig
from jaxbert.model.position import Alibi
from jaxbert.model.position_schemes import Sum, T5Bias
from jaxbert.model.transformer import Inputs
from tests.model.test_joint_leaves import OPERATIONS
from tests.model.test_joints import SCORES
from tests.model.test_kernel_tpu import Steep
from tests.models import CONFIGS

pytest.importorskip("libtpu", reason="needs libtpu: pip install 'jax[tpu]'")
pytestmark = pytest.mark.deviceless

T5 = T5Bias(3, rngs=nnx.Rngs(0), std=1.0, num_buckets=32, max_distance=128)
TARGETS = ["v5e:2x2", "v6e:2x2"]
ROWS, SAME = PartitionSpec("data"), PartitionSpec()
BASE = EncoderConfig.jinabert(
    vocab_size=30528, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072
)
# Measured: 1.18 GB on both, 0.27 of it the weights; one state of all tokens is 0.1 GB, and queries,
# keys, values and context are 0.2 GB each, for 64 features fill half of the 128 lanes. With the
# scores of one layer written out, the same program needs 66 GB.
MOST_BYTES = 1.4e9


def devices(target):
    return topologies.get_topology_desc(platform="tpu", topology_name=target).devices


def on(sharding, tree, dtype=None):
    """The tree's shapes as arguments of a program for the sharding's devices."""

    def place(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=sharding)

    return jax.tree.map(place, tree)


def shapes(config, dtype, **parts):
    """An encoder without weights."""
    return on(None, jax.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0), **parts)), dtype)


def texts(rows, length):
    """What an encoder reads, without contents."""
    full = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    return Inputs(full, full, full, jax.ShapeDtypeStruct((1, length), jnp.int32))


def queries(b, n, t, h, dtype):
    """The arguments of attend without the bias, without contents."""
    x = jax.ShapeDtypeStruct((b, n, t, h), dtype)
    _, segments, _, positions = texts(b, t)
    return (x, x, x), (positions, segments)


def compiled(function, arguments, target="v5e:2x2"):
    """The program for one chip."""
    chip = SingleDeviceSharding(devices(target)[0])
    return jax.jit(function).lower(*on(chip, arguments)).compile()


def collectives(program):
    """The operations of a program that move data between chips."""
    names = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return set(re.findall(names, program.as_text()))


@pytest.mark.parametrize("target", TARGETS)
def test_eight_texts_of_8192_tokens_fit_the_base_model(target):
    encoder = shapes(BASE, jnp.bfloat16, attention=tpu)
    program = compiled(Encoder.forward, (encoder, texts(8, 8192)), target)
    assert "tpu_custom_call" in program.as_text()
    assert program.memory_analysis().peak_memory_in_bytes < MOST_BYTES


@pytest.mark.parametrize("t", [1, 131, 1031])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("h", [32, 64, 128])
def test_the_kernel_compiles_for_every_width_and_length(h, dtype, t):
    qkv, place = queries(2, 3, t, h, dtype)
    compiled(tpu, (*qkv, Alibi(3).bias, *place), TARGETS[h == 64])


def test_the_widest_heads_fit_the_vector_memory():
    qkv, place = queries(1, 3, 2048, 256, jnp.float32)
    compiled(tpu, (*qkv, None, *place))
    with pytest.raises(NotImplementedError, match="heads are 257 wide"):
        compiled(tpu, (*queries(1, 3, 2048, 257, jnp.float32)[0], None, *place))


def test_the_spans_of_many_long_rows_fit_the_scalar_memory():
    qkv, place = queries(8, 12, 65536, 8, jnp.bfloat16)
    compiled(tpu, (*qkv, Alibi(12).bias, *place))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
def test_leaves_of_every_kind_compile(dtype):
    qkv, place = queries(1, 3, 257, 32, jnp.float32)
    bias = Steep(jnp.ones((3,), dtype), jnp.ones((3, 1), dtype))
    compiled(tpu, (*qkv, bias, *place))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_t5s_buckets_compile(dtype):
    qkv, place = queries(2, 3, 1031, 64, dtype)
    compiled(tpu, (*qkv, T5.bias, *place))
    compiled(tpu, (*qkv, Sum(Alibi(3), T5).bias, *place))


@pytest.mark.parametrize("target", TARGETS)
def test_every_operation_that_a_bias_may_have_compiles(target):
    qkv, place = queries(1, 3, 131, 32, jnp.float32)
    compiled(tpu, (*qkv, OPERATIONS, *place), target)


def test_a_score_of_its_own_compiles_forward_and_backward():
    def loss(qkv, bias, place):
        context, lse = tpu.with_lse(*qkv, bias, *place)
        return context.sum() + lse.sum()

    qkv, place = queries(1, 3, 1031, 32, jnp.float32)
    compiled(jax.grad(loss, argnums=(0, 1)), (qkv, SCORES["cap and ALiBi"], place))


def test_the_gradients_of_t5s_buckets_compile():
    def loss(qkv, bias, place):
        return tpu(*qkv, bias, *place).sum()

    qkv, place = queries(1, 3, 1031, 32, jnp.float32)
    compiled(jax.grad(loss, argnums=(0, 1)), (qkv, T5.bias, place))


def test_the_gradients_compile():
    def loss(qkv, bias, place):
        return tpu(*qkv, bias, *place).sum()

    qkv, place = queries(1, 3, 1031, 32, jnp.float32)
    compiled(jax.grad(loss, argnums=(0, 1)), (qkv, Alibi(3).bias, place))


def test_chips_with_rows_of_their_own_exchange_nothing():
    mesh = Mesh(np.array(devices("v5e:2x2")), ("data",))
    rows, same = NamedSharding(mesh, ROWS), NamedSharding(mesh, SAME)
    specs = Inputs(ROWS, ROWS, ROWS, SAME)
    forward = jax.shard_map(Encoder.forward, mesh=mesh, in_specs=(SAME, specs), out_specs=ROWS)
    given = texts(8, 1031)
    encoder = on(same, shapes(CONFIGS["jinabert-geglu"], jnp.bfloat16, attention=tpu))
    given = Inputs(*(on(rows, x) for x in given[:3]), on(same, given.positions))
    assert collectives(jax.jit(forward).lower(encoder, given).compile()) == set()

    def total(encoder, given):
        return jax.lax.psum(Encoder.forward(encoder, given), "data")

    summed = jax.shard_map(total, mesh=mesh, in_specs=(SAME, specs), out_specs=SAME)
    assert collectives(jax.jit(summed).lower(encoder, given).compile()) == {"all-reduce"}
