"""Position schemes: each against its formula in NumPy, and the properties that all must have."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert.errors import ConfigError
from jaxbert.model import reference
from jaxbert.model.attention.dense import bias_table
from jaxbert.model.position import Alibi, Bias, Learned, Position
from jaxbert.model.position_schemes import BucketBias, Rope, Sum, T5Bias, bucket_starts
from tests.models import CONFIGS, GOLDEN, SIZES, arrays, make, published, raw_config
from tests.tolerances import ENCODER, FUNCTION, VISIBLE, close, largest, off

HEADS, WIDTH = 3, 4  # RoPE turns pairs, so the width of a head is even
CONFIG = CONFIGS["no-position"].__class__.bert(
    **SIZES | {"hidden_size": HEADS * WIDTH, "position": "none"}
)


def t5(buckets=8, farthest=11):
    return T5Bias(HEADS, rngs=nnx.Rngs(0), std=1.0, num_buckets=buckets, max_distance=farthest)


def learned():
    return Learned(19, HEADS * WIDTH, rngs=nnx.Rngs(1), std=0.5)


BIASES = {"alibi": Alibi(HEADS), "t5": t5(), "alibi + t5": Sum(Alibi(HEADS), t5())}
RELATIVE = BIASES | {"rope": Rope(), "rope + alibi": Sum(Rope(), Alibi(HEADS)), "none": Position()}
SCHEMES = RELATIVE | {"learned": learned(), "learned + t5": Sum(learned(), t5())}


def rope(qk, base=10000.0):
    """Each pair (i, i + h/2) turned as a complex number."""
    length, width = qk.shape[-2:]
    half = width // 2
    angle = np.arange(length)[:, None] * base ** (-np.arange(half) / half)[None, :]
    turned = (qk[..., :half] + 1j * qk[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def whole(scheme, length):
    """The bias [n, t, s] of whole rows, of a scheme or of a bias itself."""
    bias = scheme if isinstance(scheme, Bias) else scheme.bias
    return np.asarray(bias_table(bias, jnp.arange(length, dtype=jnp.int32)[None]))[0]


def test_alibi_is_the_reference():
    expected = reference.alibi(6, 17)
    close(whole(Alibi(6), 17), expected, FUNCTION, expected)


def stored_buckets():
    """torch's answers for pairs of numbers of buckets and largest distances."""
    known = json.loads((GOLDEN / "t5-buckets.json").read_text())
    assert len(known) == 12
    return {tuple(map(int, pair.split(","))): value for pair, value in known.items()}


STORED = stored_buckets()
# As torch answers for them too: odd numbers, whose last bucket is of no use, and the smallest.
SIZES_OF_BUCKETS = [*STORED, (33, 128), (5, 2), (4, 2), (4, 1000), (6, 100)]


@pytest.mark.parametrize("pair", STORED)
def test_buckets_begin_where_the_published_code_has_them_begin(pair):
    starts, distances = bucket_starts(*pair), np.arange(201)
    assert len(starts) == pair[0] // 2 - 1
    found = np.searchsorted(starts, distances, side="right")
    np.testing.assert_array_equal(found, STORED[pair]["bucket_of_distance_0_to_200"])


def test_every_published_model_has_these_buckets():
    assert bucket_starts(32, 128) == (*range(1, 9), 12, 16, 23, 32, 46, 64, 91)


@pytest.mark.parametrize(("buckets", "farthest"), SIZES_OF_BUCKETS)
def test_t5_bias_is_its_published_formula(buckets, farthest):
    scheme = t5(buckets, farthest)
    table = np.asarray(scheme.bias.table[...]).T
    expected = reference.relative_bias(table, 213, farthest)
    np.testing.assert_array_equal(whole(scheme, 213), expected)
    np.testing.assert_array_equal(whole(scheme.bias.arithmetic(), 213), expected)


def test_buckets_far_beyond_the_last_start():
    bias = t5(32, 128).bias
    pos = jnp.asarray([0, 2**30, 91, 90], jnp.int32)
    table, got = np.asarray(bias.table[...]), np.asarray(tile(bias, pos, pos))
    np.testing.assert_array_equal(got[:, 1, 0], table[:, 15])
    np.testing.assert_array_equal(got[:, 0, 1:], table[:, [31, 31, 30]])
    np.testing.assert_array_equal(got, np.asarray(tile(bias.arithmetic(), pos, pos)))


@pytest.mark.parametrize(
    ("buckets", "farthest", "message"),
    [
        (3, 128, "3 buckets of relative positions are too few; give at least 4"),
        (-2, 128, "-2 buckets of relative positions are too few"),
        (32, 8, "a largest relative distance of 8 does not fit 32 buckets, .*one of 9 or more"),
        (32, -1, "a largest relative distance of -1 does not fit 32 buckets"),
        (32, 2**31, "in 32 bits"),
    ],
)
def test_sizes_without_buckets_are_refused(buckets, farthest, message):
    with pytest.raises(ConfigError, match=message):
        t5(buckets, farthest)


def test_a_table_too_small_is_refused():
    with pytest.raises(ConfigError, match="2 buckets of relative positions are too few"):
        BucketBias(jnp.zeros((HEADS, 2)), 128)


@pytest.mark.parametrize("name", [name for name in BIASES if "t5" in name])
@pytest.mark.parametrize("arithmetic", [False, True])
def test_the_bound_of_a_bias_is_its_largest_term_from_a_distance_on(name, arithmetic):
    bias = BIASES[name].bias.arithmetic() if arithmetic else BIASES[name].bias
    everything, length = whole(BIASES[name], 35), 35
    distance = np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])
    bounds = np.asarray(jax.vmap(lambda head: head.upper(jnp.arange(length)))(bias))
    for d in range(length):
        largest_beyond = everything[:, distance >= d].max(axis=1)
        assert (bounds[:, d] >= largest_beyond).all()
        if name == "t5":
            np.testing.assert_array_equal(bounds[:, d], largest_beyond)


def test_rope_turns_pairs():
    q = np.random.default_rng(0).normal(size=(2, 3, 7, 4)).astype(np.float32)
    pos = jnp.arange(7, dtype=jnp.int32)[None]
    got = np.asarray(Rope().rotate(jnp.asarray(q), pos))
    close(got, rope(q), FUNCTION)
    close(np.linalg.norm(got, axis=-1), np.linalg.norm(q, axis=-1), FUNCTION)


@jax.jit
def tile(bias, pos_q, pos_k):
    """The bias of all heads on a tile."""
    return jax.vmap(lambda head: head(pos_q, pos_k))(bias)


@pytest.mark.parametrize("name", BIASES)
def test_a_tile_is_a_part_of_the_whole(name):
    everything, pos = whole(BIASES[name], 17), jnp.arange(17, dtype=jnp.int32)
    for row in range(0, 15):
        for column in (0, 1, row // 2, 12):
            part = tile(BIASES[name].bias, pos[row : row + 3], pos[column : column + 5])
            expected = everything[:, row : row + 3, column : column + 5]
            close(part, expected, FUNCTION, expected)


@pytest.mark.parametrize("name", BIASES)
def test_every_array_of_a_bias_has_a_leading_axis_of_heads(name):
    leaves = jax.tree.leaves(BIASES[name].bias)
    assert leaves
    assert all(leaf.shape[0] == HEADS for leaf in leaves)


def encoder(scheme):
    """Random weights everywhere but in the position scheme, which keeps its own."""
    model = make(CONFIG)
    model.position = scheme
    return model


@pytest.mark.parametrize("name", RELATIVE)
def test_a_relative_scheme_does_not_see_a_shift(name):
    model, (ids, mask, _) = encoder(RELATIVE[name]), arrays(5)
    pos = np.arange(11)[None]
    a = np.asarray(model(ids, mask, positions=pos))
    b = np.asarray(model(ids, mask, positions=pos + 6))
    close(a[mask == 1], b[mask == 1], ENCODER)


def test_a_learned_scheme_does():
    model, (ids, mask, _) = encoder(learned()), arrays(5)
    pos = np.arange(11)[None]
    a = np.asarray(model(ids, mask, positions=pos))
    b = np.asarray(model(ids, mask, positions=pos + 6))
    assert off(a[mask == 1], b[mask == 1]) > VISIBLE


@pytest.mark.parametrize("name", SCHEMES)
def test_an_encoder_with_each_scheme_agrees_with_the_reference(name):
    scheme = SCHEMES[name]
    model, (ids, mask, types) = encoder(scheme), arrays(41)
    tensors, raw = published(model), raw_config(CONFIG)
    if "learned" in name:
        table = scheme.table if name == "learned" else scheme.first.table
        tensors["embeddings.position_embeddings.weight"] = np.asarray(table[...])
        raw["position_embedding_type"] = "absolute"
    bias = None if scheme.bias is None else whole(scheme, 11)
    rotate = rope if "rope" in name else None
    theirs = reference.encode(tensors, raw, ids, mask, types, bias, rotate)
    ours = model.hidden_states(ids, mask, types)
    for a, b in zip(ours, theirs, strict=True):
        close(np.asarray(a)[mask == 1], b[mask == 1], ENCODER)


@pytest.mark.parametrize("name", [name for name in SCHEMES if name != "none"])
def test_order_matters_with_a_scheme(name):
    model = encoder(SCHEMES[name])
    ids = np.array([[3, 7, 11, 13, 17]])
    turned = ids[:, ::-1].copy()
    a, b = np.asarray(model(ids)), np.asarray(model(turned))[:, ::-1]
    symmetric = {"alibi"}  # sees distances alone, so a text read backwards is the same
    assert (off(a, b) < ENCODER) == (name in symmetric)
    swapped = np.asarray(model(np.array([[7, 3, 11, 13, 17]])))
    assert off(a[0, 2:], swapped[0, 2:]) > VISIBLE


def test_limits_of_schemes():
    assert learned().limit == 19
    assert Alibi(3).limit is None
    assert Sum(Alibi(3), learned()).limit == 19
    assert Sum(Sum(Alibi(3), learned()), Learned(7, 12, rngs=nnx.Rngs(0), std=1.0)).limit == 7
    assert Sum(Position(), Rope()).bias is None


def test_gradients_reach_the_table_of_a_bias():
    model, (ids, mask, _) = encoder(t5()), arrays(5)
    gradient = jax.grad(lambda m: jnp.square(m(ids, mask)[:, 0, 0]).sum())(model)
    most = max(map(largest, jax.tree.leaves(gradient)))
    assert largest(gradient.position.bias.table[...]) > VISIBLE * most
