"""What is particular to the TPU kernel, run by Pallas' interpreter on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from jaxbert.model.attention import dense
from jaxbert.model.attention.tpu import Tpu, tpu
from jaxbert.model.position import Alibi, Bias
from tests.model.test_positions import t5
from tests.models import CONFIGS, arrays, make
from tests.tolerances import ENCODER, FUNCTION, close

B, N, T, H = 2, 3, 37, 5
SMALL = Tpu(queries=8, keys=16, interpret=True)
POSITIONS = jnp.arange(T, dtype=jnp.int32)[None]
ONES = jnp.ones((B, T), jnp.int32)


class Steep(Bias):
    """-slope factor |distance|, with leaves of any dtype and shape."""

    def __init__(self, slopes, factor):
        self.slopes = slopes
        self.factor = factor

    def __call__(self, pos_q, pos_k):
        return self.upper(jnp.abs(pos_q[:, None] - pos_k[None, :]))

    def upper(self, distance):
        factor = self.factor.astype(jnp.float32).reshape((1,) * distance.ndim)
        return -self.slopes.astype(jnp.float32) * factor * distance.astype(jnp.float32)


class LookedUp(Bias):
    """A number per distance, from a table."""

    def __init__(self, table):
        self.table = table

    def __call__(self, pos_q, pos_k):
        return self.table[jnp.abs(pos_q[:, None] - pos_k[None, :])]


LOOKED_UP = LookedUp(jnp.ones((N, T), jnp.float32))
STEEP = Steep(jnp.full((N,), 7, jnp.int32), jnp.ones((N, 1), jnp.float32))


def draw(seed=0, b=B):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.normal(size=(3, b, N, T, H)).astype(np.float32))


def agree(a, b, tolerance=FUNCTION):
    close(a, b, tolerance)


@pytest.mark.parametrize(
    ("dtype", "shape"), [(jnp.float32, (N,)), (jnp.bfloat16, (N, 1)), (jnp.int32, (N, 1, 1))]
)
def test_leaves_of_a_bias_reach_the_kernel_head_by_head(dtype, shape):
    slopes = jnp.arange(1, N + 1).astype(dtype)
    arguments = *draw(), Steep(slopes, slopes[::-1].reshape(shape)), POSITIONS, ONES
    agree(jax.jit(SMALL)(*arguments), dense(*arguments))


@pytest.mark.parametrize("buckets", [7, 8, 32])
def test_numbers_of_buckets_reach_the_kernel_head_by_head(buckets):
    arguments = *draw(), t5(buckets, 11).bias, POSITIONS, ONES
    agree(jax.jit(SMALL)(*arguments), dense(*arguments))


def test_far_buckets_that_are_negligible_are_not_computed():
    q, k, v = draw()
    bias = t5(8, 11).bias
    bias.table[...] = bias.table[...].at[:, jnp.asarray([3, 7])].set(-1e4)
    assert bias.starts == (1, 2, 5)
    poisoned = v.at[:, :, 16:32].set(jnp.nan)
    got = np.asarray(SMALL(q, k, poisoned, bias, POSITIONS, ONES))
    agree(got[:, :, :8], dense(q, k, v, bias, POSITIONS, ONES)[:, :, :8])
    assert np.isnan(got[:, :, 16:32]).all()


def test_far_tiles_are_not_computed():
    q, k, v = draw()
    # Keys 16 ... 31 are tile 1; at a slope of 7 nothing beyond a few positions matters.
    poisoned = v.at[:, :, 16:32].set(jnp.nan)
    got = np.asarray(SMALL(q, k, poisoned, STEEP, POSITIONS, ONES))
    agree(got[:, :, :8], dense(q, k, v, STEEP, POSITIONS, ONES)[:, :, :8])
    assert np.isnan(got[:, :, 16:32]).all()
    exhaustive = Tpu(queries=8, keys=16, tolerance=0.0, interpret=True)
    assert np.isnan(exhaustive(q, k, poisoned, STEEP, POSITIONS, ONES)).all()


def test_tiles_of_other_texts_and_of_padding_are_not_computed():
    q, k, v = draw()
    segments = jnp.where(POSITIONS < 16, 1, jnp.where(POSITIONS < 32, 2, 0)).repeat(B, axis=0)
    poisoned = v.at[:, :, 16:].set(jnp.nan)
    got = np.asarray(SMALL(q, k, poisoned, None, POSITIONS, segments))
    agree(got[:, :, :16], dense(q, k, v, None, POSITIONS, segments)[:, :, :16])
    assert np.isnan(got[:, :, 16:32]).all()
    np.testing.assert_array_equal(got[:, :, 32:], 0.0)


def test_runs_on_a_share_of_the_rows_per_device():
    # Pallas' interpreter cannot follow which device an array varies over; the compiler can, below.
    each = jax.jit(on_two_devices(SMALL, check_vma=False))
    arguments = *draw(), Alibi(N).bias, POSITIONS, ONES
    agree(each(*arguments), dense(*arguments))


def test_shard_map_accepts_the_kernel_with_its_checks_on():
    traced = jax.jit(on_two_devices(tpu)).trace(*draw(), Alibi(N).bias, POSITIONS, ONES)
    lowered = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert lowered.count("tpu_custom_call") == 1


def on_two_devices(attend, **options):
    rows, same = PartitionSpec("data"), PartitionSpec()
    return jax.shard_map(
        attend,
        mesh=Mesh(np.array(jax.devices()), ("data",)),
        in_specs=(rows, rows, rows, same, same, rows),
        out_specs=rows,
        **options,
    )


def test_can_be_mapped_over_another_axis():
    q, k, v = draw(b=2 * B).reshape(3, 2, B, N, T, H)
    arguments = Alibi(N).bias, POSITIONS, ONES
    got = jax.vmap(lambda *qkv: SMALL(*qkv, *arguments))(q, k, v)
    for i in range(2):
        agree(got[i], dense(q[i], k[i], v[i], *arguments))


def test_serves_a_scanned_encoder():
    ids, mask, types = arrays(seed=0, length=T)
    ours, theirs = (
        make(CONFIGS["jinabert-geglu"], attention=attend)(ids, mask, types)
        for attend in (SMALL, dense)
    )
    agree(ours[mask == 1], theirs[mask == 1], ENCODER)


@pytest.mark.parametrize(
    ("t", "queries", "keys"),
    [(1, 128, 128), (128, 128, 128), (131, 256, 256), (513, 512, 1024), (8191, 512, 1024)],
)
def test_tiles_are_no_larger_than_the_text(t, queries, keys):
    q = jnp.zeros((1, 1, t, 8), jnp.float32)
    assert tpu.tiling(q, None)[:2] == (queries, keys)
    assert Tpu(queries=1024, keys=512).tiling(q, None)[:2] == (keys, queries)


@pytest.mark.parametrize(("queries", "keys"), [(512, 768), (64, 512), (0, 128)])
def test_refuses_tiles_that_do_not_fit(queries, keys):
    with pytest.raises(ValueError, match=f"tiles of {queries} queries and {keys} keys; choose"):
        Tpu(queries, keys)


@pytest.mark.parametrize(
    ("shape", "dtype", "bias", "message"),
    [
        ((B, N, T, H), jnp.float32, LOOKED_UP, "LookedUp uses .*gather"),
        ((B, N, T, H), jnp.float16, None, "queries are float16"),
        ((B, N, T, 257), jnp.float32, None, "heads are 257 wide"),
        ((2**13, N, 2**12, H), jnp.float32, None, "196608 tiles of queries"),
    ],
    ids=["lookup", "float16", "wide", "many"],
)
def test_refuses_what_the_compiler_cannot_do(shape, dtype, bias, message):
    x = jax.ShapeDtypeStruct(shape, dtype)
    row = jax.ShapeDtypeStruct((shape[0], shape[2]), jnp.int32)
    with pytest.raises(NotImplementedError, match=message):
        jax.eval_shape(lambda x, row: tpu(x, x, x, bias, row, row), x, row)
