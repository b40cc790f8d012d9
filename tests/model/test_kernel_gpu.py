"""What is particular to the GPU kernel, run one operation at a time on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxbert.encoder import Encoder
from jaxbert.model.attention import dense
from jaxbert.model.attention.gpu import Gpu
from jaxbert.model.position import AlibiBias, Bias
from jaxbert.model.transformer import Inputs
from tests.model.test_kernel_tpu import LOOKED_UP
from tests.model.test_positions import BIASES, t5
from tests.models import CONFIGS, arrays, make
from tests.tolerances import ENCODER, FUNCTION, close

B, N, T, H = 2, 3, 83, 5
POSITIONS = jnp.arange(T, dtype=jnp.int32)[None]
ONES = jnp.ones((B, T), jnp.int32)
gpu = Gpu(queries=16, keys=16, interpret=True)


def draw(seed, width=H):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(3, B, N, T, width)).astype(np.float32))


@pytest.mark.parametrize("sizes", [(16, 64), (64, 16), (128, 64)])
def test_the_two_sizes_of_a_tile_are_free(sizes):
    q, k, v = draw(0, width=20)
    bias = BIASES["alibi"].bias
    got = jax.jit(Gpu(*sizes, interpret=True))(q, k, v, bias, POSITIONS, ONES)
    expected = dense(q, k, v, bias, POSITIONS, ONES)
    close(got, expected, FUNCTION)


def test_tiles_of_other_texts_are_not_touched():
    q, k, v = draw(1)
    segments = jnp.where(POSITIONS < 32, 1, jnp.where(POSITIONS < 64, 2, 3)) * ONES
    expected = np.asarray(dense(q, k, v, None, POSITIONS, segments))[:, :, 32:64]
    beside = jnp.where((POSITIONS < 32) | (POSITIONS >= 64), jnp.nan, 0.0)[:, None, :, None]
    got = np.asarray(gpu(q, k, v + beside, None, POSITIONS, segments))
    close(got[:, :, 32:64], expected, FUNCTION)
    assert np.isnan(got[:, :, :32]).all()


def test_tiles_that_alibi_makes_negligible_are_not_touched():
    q, k, v = draw(2)
    bias = AlibiBias(jnp.asarray([3.0, 5.0, 7.0]))
    last = v + jnp.where(POSITIONS < 80, 0.0, jnp.nan)[:, None, :, None]
    near = np.asarray(dense(q, k, v, bias, POSITIONS, ONES))[:, :, :32]
    got = np.asarray(gpu(q, k, last, bias, POSITIONS, ONES))
    close(got[:, :, :32], near, FUNCTION)
    everything = Gpu(queries=16, keys=16, tolerance=0.0, interpret=True)
    assert np.isnan(np.asarray(everything(q, k, last, bias, POSITIONS, ONES))).all()


class Crossing(Bias):
    """A float per head, and whole numbers in another shape."""

    def __init__(self, slopes, shifts):
        self.slopes, self.shifts = nnx.Param(slopes), shifts

    def __call__(self, pos_q, pos_k):
        behind = (pos_q[:, None] > pos_k[None, :]).astype(jnp.float32)
        return self.slopes[...] * behind + self.shifts.astype(jnp.float32) * (1 - behind)


def test_every_leaf_of_a_bias_arrives_with_its_head():
    q, k, v = draw(3)
    bias = Crossing(jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([[[4]], [[1]], [[-2]]], jnp.int32))
    got = gpu(q, k, v, bias, POSITIONS, ONES)
    expected = dense(q, k, v, bias, POSITIONS, ONES)
    close(got, expected, FUNCTION)


def test_an_encoder_runs_on_two_devices():
    config = CONFIGS["jinabert-geglu"]
    model, plain = make(config, attention=gpu), make(config)
    ids, mask, types = (jnp.asarray(x, jnp.int32) for x in arrays(4, rows=6))
    positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    rows = Inputs(P("data"), P("data"), P("data"), P())
    split = jax.shard_map(
        Encoder.forward, mesh=mesh, in_specs=(P(), rows), out_specs=P("data"), check_vma=True
    )
    got = jax.jit(split)(model, Inputs(ids, mask, types, positions))
    assert len(got.sharding.device_set) == 2
    real = np.asarray(mask) == 1
    expected = np.asarray(plain(ids, mask, types))[real]
    close(np.asarray(got)[real], expected, ENCODER)


def test_some_arguments_may_be_shared_by_devices_and_some_not():
    q, k, v = draw(7)
    shared, split, bias = P(), P("data"), BIASES["alibi"].bias

    def run(*arguments):
        result = gpu(*arguments)
        assert jax.typeof(result).manual_axis_type.varying == {"data"}
        return result

    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    specs = (shared, shared, split, shared, shared, split)
    on_both = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=split, check_vma=True)
    got = jax.jit(on_both)(q[:1], k[:1], v, bias, POSITIONS, ONES)
    twice = (jnp.concatenate([x[:1], x[:1]]) for x in (q, k))
    expected = dense(*twice, v, bias, POSITIONS, ONES)
    close(got, expected, FUNCTION)


def test_a_bias_that_looks_something_up_is_refused():
    with pytest.raises(NotImplementedError, match=r"LookedUp uses .*gather"):
        gpu(*draw(5), LOOKED_UP, POSITIONS, ONES)


@pytest.mark.parametrize("buckets", [7, 8, 32])
def test_numbers_of_buckets_arrive_with_their_head(buckets):
    q, k, v = draw(8)
    bias = t5(buckets, 11).bias
    got = gpu(q, k, v, bias, POSITIONS, ONES)
    close(got, dense(q, k, v, bias, POSITIONS, ONES), FUNCTION)


def test_heads_too_wide_for_shared_memory_are_refused():
    with pytest.raises(NotImplementedError, match="heads of 257 numbers; the kernel takes 256"):
        gpu(*draw(6, width=257), None, POSITIONS, ONES)


@pytest.mark.parametrize("sizes", [(8, 64), (128, 48)])
def test_sizes_that_triton_has_no_tile_for_are_refused(sizes):
    with pytest.raises(ValueError, match="powers of two from 16 on"):
        Gpu(*sizes)
