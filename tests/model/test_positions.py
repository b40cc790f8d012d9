"""Position schemes: each against its formula in NumPy, and the properties that all must have."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert.model import reference
from jaxbert.model.attention.dense import bias_table
from jaxbert.model.position import Alibi, Learned, Position
from jaxbert.model.position_schemes import Rope, Sum, T5Bias
from tests.models import CONFIGS, SIZES, arrays, make, published, raw_config
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


def t5_bucket(offset, buckets, farthest):
    """T5's published bucket function for one offset key - query, in plain Python."""
    side = buckets // 2
    base, distance = (side if offset > 0 else 0), abs(offset)
    exact = side // 2
    if distance < exact:
        return base + distance
    far = math.log(distance / exact) / math.log(farthest / exact) * (side - exact)
    return base + min(exact + int(far), side - 1)


def rope(qk, base=10000.0):
    """Each pair (i, i + h/2) turned as a complex number."""
    length, width = qk.shape[-2:]
    half = width // 2
    angle = np.arange(length)[:, None] * base ** (-np.arange(half) / half)[None, :]
    turned = (qk[..., :half] + 1j * qk[..., half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def whole(scheme, length):
    """The bias [n, t, s] of whole rows."""
    return np.asarray(bias_table(scheme.bias, jnp.arange(length, dtype=jnp.int32)[None]))[0]


def test_alibi_is_the_reference():
    expected = reference.alibi(6, 17)
    close(whole(Alibi(6), 17), expected, FUNCTION, expected)


@pytest.mark.parametrize(("buckets", "farthest"), [(8, 11), (32, 128), (6, 100)])
def test_t5_bias_is_its_published_formula(buckets, farthest):
    scheme = t5(buckets, farthest)
    table = np.asarray(scheme.bias.table[...])
    length = farthest + 7
    # At an exact power the logarithm may fall on either side of an integer: float32 against
    # float64. The published code computes it in float32, so those offsets are left out here.
    got = whole(scheme, length)
    for q, k in [(0, k) for k in range(length)] + [(length - 1, k) for k in range(length)]:
        side, distance = buckets // 2, abs(k - q)
        exact = side // 2
        if distance >= exact:
            far = math.log(distance / exact) / math.log(farthest / exact) * (side - exact)
            if abs(far - round(far)) < 1e-4:
                continue
        expected = table[:, t5_bucket(k - q, buckets, farthest)]
        np.testing.assert_array_equal(got[:, q, k], expected)


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
