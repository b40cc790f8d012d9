"""The GPU kernel compiled for an H100 by the CUDA compiler, on a machine that has none.

Needs the plugin of the installed jax version, jax-cuda13-plugin and jax-cuda13-pjrt (without their
dependencies), and a ptxas of CUDA 13: `python -m pytest -m deviceless tests/deviceless`. Nothing is
run, so this shows what compiles and what memory it takes, not what it computes.
"""

import functools
import importlib.util
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxbert.encoder import Encoder
from jaxbert.model.attention.gpu import gpu
from jaxbert.model.config import EncoderConfig
from jaxbert.model.position import Alibi
from jaxbert.model.position_schemes import T5Bias
from jaxbert.model.transformer import Inputs
from tests.model.test_joint_leaves import OPERATIONS
from tests.model.test_joints import SCORES

pytestmark = pytest.mark.deviceless
TARGET = Path(__file__).parent / "h100.txtpb"
# How the compiled text names a kernel of ours; its own Triton products are fusions.
KERNEL = 'custom_call_target="__gpu$xla.gpu.triton"'
WHOLE = P()
MIB = 2**20


def parts_of(package):
    """The folders of an installed namespace package; none if it is not there."""
    found = importlib.util.find_spec(package)
    return [Path(place) for place in found.submodule_search_locations] if found else []


def cuda_folder():
    """A CUDA folder with a ptxas: where it is usual, in NVIDIA's wheels, or on the path."""
    usual = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    places = [Path(place) for place in usual if place]
    places += [place for root in parts_of("nvidia") for place in sorted(root.iterdir())]
    if on_path := shutil.which("ptxas"):
        places.append(Path(on_path).parents[1])
    return next((place for place in places if (place / "bin" / "ptxas").is_file()), None)


@functools.cache
def h100(count):
    """A mesh of so many H100s with the one axis `data`."""
    if not any(list(place.glob("xla_cuda*")) for place in parts_of("jax_plugins")):
        pytest.skip("no CUDA plugin of jax is installed")
    if cuda_folder() is None:
        pytest.skip("no CUDA folder with a ptxas was found")
    described = topologies.get_topology_desc(
        platform="cuda", target_config=TARGET.read_text(), topology=f"1x1x{count}"
    )
    return Mesh(np.array(described.devices), ("data",))


def compiled(mesh, function, *arguments):
    """function for arguments that say where on the mesh they lie."""
    # Triton asks the mesh in context what chip it compiles for.
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(function).lower(*arguments)
    return lowered.compile(compiler_options={"xla_gpu_cuda_data_dir": str(cuda_folder())})


def shape(mesh, sizes, dtype=jnp.int32, spec=WHOLE):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=NamedSharding(mesh, spec))


def placed(mesh, tree, dtype=None):
    """The arrays of a tree as shapes, whole on every device."""
    return jax.tree.map(lambda leaf: shape(mesh, leaf.shape, dtype or leaf.dtype), tree)


def attention_arguments(mesh, sizes, dtype, bias):
    b, _, t, _ = sizes
    qkv = (shape(mesh, sizes, dtype),) * 3
    return *qkv, placed(mesh, bias), shape(mesh, (1, t)), shape(mesh, (b, t))


def base_model(mesh, rows, length):
    """JinaBERT base with weights in bfloat16, and inputs whose rows are shared out."""
    config = EncoderConfig.jinabert(
        vocab_size=30528, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072
    )
    empty = jax.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0), attention=gpu))
    tokens = shape(mesh, (rows, length), spec=P("data"))
    inputs = Inputs(tokens, tokens, tokens, shape(mesh, (1, length)))
    return placed(mesh, empty, jnp.bfloat16), inputs


@pytest.mark.parametrize("length", [1, 1013])
@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda x: x.__name__
)
@pytest.mark.parametrize("width", [20, 32, 64, 128, 256])
def test_every_width_type_and_odd_length_compiles(width, dtype, length):
    arguments = attention_arguments(h100(1), (2, 3, length, width), dtype, Alibi(3).bias)
    assert KERNEL in compiled(h100(1), gpu, *arguments).as_text()


def test_without_a_bias_it_compiles():
    arguments = attention_arguments(h100(1), (2, 3, 131, 64), jnp.bfloat16, None)
    assert KERNEL in compiled(h100(1), gpu, *arguments).as_text()


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda x: x.__name__
)
def test_t5s_buckets_compile(dtype):
    scheme = T5Bias(3, rngs=nnx.Rngs(0), std=1.0, num_buckets=32, max_distance=128)
    arguments = attention_arguments(h100(1), (2, 3, 1013, 64), dtype, scheme.bias)
    assert KERNEL in compiled(h100(1), gpu, *arguments).as_text()


def test_every_operation_that_a_bias_may_have_compiles():
    arguments = attention_arguments(h100(1), (1, 3, 131, 32), jnp.float32, OPERATIONS)
    assert KERNEL in compiled(h100(1), gpu, *arguments).as_text()


def test_a_score_of_its_own_compiles_forward_and_backward():
    def loss(q, k, v, *rest):
        context, lse = gpu.with_lse(q, k, v, *rest)
        return context.astype(jnp.float32).sum() + lse.sum()

    bias = SCORES["cap and ALiBi"]
    arguments = attention_arguments(h100(1), (2, 3, 257, 64), jnp.bfloat16, bias)
    gradients = jax.grad(loss, argnums=(0, 1, 2, 3))
    assert KERNEL in compiled(h100(1), gradients, *arguments).as_text()


def test_the_gradients_compile():
    def loss(q, k, v, *rest):
        return gpu(q, k, v, *rest).astype(jnp.float32).sum()

    arguments = attention_arguments(h100(1), (2, 3, 257, 64), jnp.bfloat16, Alibi(3).bias)
    gradients = jax.grad(loss, argnums=(0, 1, 2, 3))
    assert KERNEL in compiled(h100(1), gradients, *arguments).as_text()


def test_not_even_one_head_s_scores_are_in_memory():
    length = 8192
    arguments = attention_arguments(h100(1), (1, 12, length, 64), jnp.bfloat16, Alibi(12).bias)
    memory = compiled(h100(1), gpu, *arguments).memory_analysis()
    assert memory.temp_size_in_bytes < length * length * 2


def test_the_base_model_reads_eight_texts_of_8192_tokens_in_1_25_gib():
    # 838 MiB with jax 0.10, 1045 with 0.11: 262 of weights, and up to eight times the states
    # [b, t, d] with their 96. The scores of one row alone, [n, t, s] in bfloat16, would add 1536.
    memory = compiled(h100(1), Encoder.forward, *base_model(h100(1), 8, 8192)).memory_analysis()
    assert memory.peak_memory_in_bytes < 1280 * MIB


def test_devices_that_share_rows_do_not_talk():
    mesh = h100(4)
    rows = Inputs(P("data"), P("data"), P("data"), P())
    split = jax.shard_map(Encoder.forward, mesh=mesh, in_specs=(P(), rows), out_specs=P("data"))
    text = compiled(mesh, split, *base_model(mesh, 8, 1024)).as_text()
    assert KERNEL in text
    assert not re.findall(r"all-\w+|collective-\w+|reduce-scatter", text)
