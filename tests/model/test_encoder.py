"""The encoder against the reference, on drawn contents, masks and lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import jaxbert
from jaxbert.checkpoint.tensors import UnverifiedModelWarning
from jaxbert.encoder import Encoder
from jaxbert.errors import ConfigError, InputError, InputTypeError
from jaxbert.model import reference
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import Mlp
from jaxbert.model.position import Alibi
from tests.models import ALL_FOLDERS, CONFIGS, arrays, encoder, make, published, raw_config
from tests.tolerances import (
    BFLOAT16,
    ENCODER,
    FUNCTION,
    GOLDEN_ENCODER,
    ROUNDINGS,
    VISIBLE,
    close,
    largest,
    off,
)


def reference_states(model, ids, mask, types, change=lambda weights: weights):
    """The reference's states for an encoder's weights, as they are or changed."""
    weights = change(published(model))
    return reference.encode(weights, raw_config(model.config), ids, mask, types)


def worst(ours, theirs, mask):
    """The largest difference on valid tokens, as a share of its layer's largest state."""
    valid = np.asarray(mask) != 0
    pairs = zip(ours, theirs, strict=True)
    return np.max([off(np.asarray(a)[valid], b[valid]) for a, b in pairs])


@pytest.mark.parametrize("name", CONFIGS)
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_states_agree_with_the_reference(name, seed):
    model = encoder(name)
    ids, mask, types = arrays(seed, types=model.config.type_vocab_size)
    theirs = reference_states(model, ids, mask, types)
    assert worst(model.hidden_states(ids, mask, types), theirs, mask) < ENCODER
    last = model(ids, mask, types)
    assert worst([last], theirs[-1:], mask) < ENCODER


@settings(max_examples=12)  # each example compiles anew
@given(
    heads=st.sampled_from([1, 2, 3, 5, 6, 7, 12]),
    width=st.sampled_from([2, 4, 6]),
    layers=st.integers(1, 3),
    inner=st.sampled_from([3, 11, 17]),
    rows=st.integers(1, 3),
    length=st.integers(1, 13),
    jina=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_free_sizes_agree_with_the_reference(heads, width, layers, inner, rows, length, jina, seed):
    # A LayerNorm of two features gives a sign. It does not move when weights are rounded, but does
    # when the mean of two near numbers is.
    assume(heads * width > 2)
    config = (EncoderConfig.jinabert if jina else EncoderConfig.bert)(
        vocab_size=29,
        hidden_size=heads * width,
        num_layers=layers,
        num_heads=heads,
        intermediate_size=inner,
    )
    model = make(config, seed)
    ids, mask, types = arrays(seed, rows, length, vocabulary=29)
    theirs = reference_states(model, ids, mask, types)
    moved = worst(reference_states(model, ids, mask, types, rounded), theirs, mask)
    allowed = max(ENCODER, ROUNDINGS * moved)
    assert worst(model.hidden_states(ids, mask, types), theirs, mask) < allowed


def rounded(weights):
    """Weights, each moved by up to half a unit of float32's last digit."""
    random = np.random.default_rng(0)
    return {
        name: weight * (1 + random.uniform(-(2.0**-24), 2.0**-24, weight.shape))
        for name, weight in weights.items()
    }


@pytest.mark.parametrize("folder", ALL_FOLDERS, ids=lambda folder: folder.name)
def test_golden_states(folder):
    if "inferred" in folder.name:
        with pytest.warns(UnverifiedModelWarning, match="inferred"):
            model = Encoder.from_pretrained(folder)
    else:
        model = Encoder.from_pretrained(folder)
    golden = load_file(folder / "golden.safetensors")
    mask = golden["attention_mask"]
    states = model.hidden_states(golden["input_ids"], mask, golden.get("token_type_ids"))
    theirs = [golden[f"hidden.{i}"] for i in range(len(states))]
    assert f"hidden.{len(states)}" not in golden
    assert worst(states, theirs, mask) < GOLDEN_ENCODER
    pooled = jaxbert.mean_pool(states[-1], mask)
    close(pooled, golden["mean_pooled"], GOLDEN_ENCODER)


@pytest.mark.parametrize("name", ["bert-gelu", "jinabert-geglu", "qk-post-norm"])
def test_scanned_layers_are_a_loop_over_layers(name):
    model = encoder(name)
    ids, mask, types = arrays(7)
    inputs = jaxbert.inference.inputs.prepare(model.config, None, ids, mask, types)

    @jax.jit
    def loop(model):
        first, metadata = model.forward_embeddings(inputs)
        states = [first]
        for i in range(model.config.num_layers):
            states.append(model.layer(i)(states[-1], metadata, model.attention))
        return states

    for scanned, looped in zip(model.hidden_states(ids, mask, types), loop(model), strict=True):
        close(scanned, looped, ENCODER)


@pytest.mark.parametrize("name", ["bert-gelu", "jinabert-geglu", "qk-post-norm"])
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_padded_in_does_not_matter(name, seed):
    model = encoder(name)
    ids, mask, types = arrays(seed)
    other = np.where(mask == 1, ids, (ids + 1 + seed) % 31)
    valid = mask == 1
    a, b = np.asarray(model(ids, mask, types)), np.asarray(model(other, mask, types))
    np.testing.assert_array_equal(a[valid], b[valid])


@pytest.mark.parametrize("name", ["bert-gelu", "jinabert-geglu"])
def test_neighbours_do_not_matter(name):
    model = encoder(name)
    ids, mask, types = arrays(11)
    whole = np.asarray(model(ids, mask, types))
    order = [2, 0, 3, 1]
    shuffled = np.asarray(model(ids[order], mask[order], types[order]))
    np.testing.assert_array_equal(shuffled, whole[order])
    ids[1:], mask[1:] = (ids[1:] + 7) % 31, 1
    np.testing.assert_array_equal(np.asarray(model(ids, mask, types))[0], whole[0])


@pytest.mark.parametrize("name", ["jinabert-geglu", "bert-gelu", "no-position"])
def test_packed_texts_are_as_if_alone(name):
    model = encoder(name)
    random = np.random.default_rng(5)
    first, second = random.integers(0, 31, 5), random.integers(0, 31, 4)
    packed = np.concatenate([first, second, [0, 0]])[None]
    segments = np.array([[1] * 5 + [2] * 4 + [0] * 2])
    together = np.asarray(model(packed, segment_ids=segments))[0]
    close(together[:5], model(first[None])[0], ENCODER)
    close(together[5:9], model(second[None])[0], ENCODER)


def test_positions_given_by_hand_are_used():
    model = encoder("bert-gelu")
    ids, mask, types = arrays(3)
    default = np.asarray(model(ids, mask, types))
    same = np.asarray(model(ids, mask, types, positions=np.arange(11)[None]))
    np.testing.assert_array_equal(default, same)
    shifted = np.asarray(model(ids, mask, types, positions=np.arange(11)[None] + 2))
    assert off(shifted, default) > VISIBLE


def test_left_padding_moves_nothing_under_alibi():
    model = encoder("jinabert-geglu")
    ids = np.random.default_rng(2).integers(0, 31, (1, 7))
    padded = np.concatenate([np.zeros((1, 4), int), ids], axis=1)
    mask = np.array([[0] * 4 + [1] * 7])
    alone = np.asarray(model(ids))[0]
    close(model(padded, mask)[0, 4:], alone, ENCODER)


def test_attentions_sum_to_one_and_agree_with_the_reference():
    model = encoder("jinabert-geglu")
    ids, mask, types = arrays(13)
    maps = model.attentions(ids, mask, types)
    assert [m.shape for m in maps] == [(4, 3, 11, 11)] * 2
    valid = np.broadcast_to(mask[:, None, :] == 1, (4, 3, 11))
    for weights in map(np.asarray, maps):
        close(weights.sum(-1)[valid], 1.0, FUNCTION)
        masked = np.broadcast_to(mask[:, None, None, :] == 0, weights.shape)
        assert (weights[masked] == 0).all()
    x = reference_states(model, ids, mask, types)[0]
    tensors = {k.removeprefix("encoder.layer.0."): v for k, v in published(model).items()}
    flat = [reference.linear(x, tensors, f"attention.self.{name}") for name in ("query", "key")]
    q, k = (y.reshape(4, 11, 3, 5).transpose(0, 2, 1, 3) for y in flat)
    scores = np.einsum("bnth,bnsh->bnts", q, k) / np.sqrt(5) + reference.alibi(3, 11)
    theirs = reference.softmax(scores, mask[:, None, None, :].astype(bool))
    close(np.asarray(maps[0])[valid], theirs[valid], ENCODER)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint32"])
def test_any_integer_dtype_and_any_mask_dtype(dtype):
    model = encoder("jinabert-geglu")
    ids, mask, types = arrays(17)
    expected = np.asarray(model(ids, mask, types))
    got = model(ids.astype(dtype), mask.astype(bool), types.astype(dtype))
    np.testing.assert_array_equal(np.asarray(got), expected)
    got = model(jnp.asarray(ids.astype(np.int32)), jnp.asarray(mask != 0), types)
    np.testing.assert_array_equal(np.asarray(got), expected)


def test_inside_jit_a_wrong_id_gives_nan_and_never_a_plausible_vector():
    model = encoder("jinabert-geglu")
    ids, mask, _ = arrays(19)
    traced = jax.jit(lambda model, ids: model(ids, mask))
    assert np.isfinite(np.asarray(traced(model, ids))).all()
    for wrong in (31, -1, 10**6):
        ids[2, 0] = wrong
        out = np.asarray(traced(model, ids))
        assert np.isnan(out[2]).all()
        assert np.isfinite(out[[0, 1, 3]]).all()


def test_inside_jit_a_position_beyond_the_table_gives_nan():
    model = encoder("bert-gelu")
    ids, mask, _ = arrays(19)
    traced = jax.jit(lambda model, pos: model(ids, mask, positions=pos))
    pos = np.arange(11, dtype=np.int32)[None]
    assert np.isfinite(np.asarray(traced(model, pos))).all()
    assert np.isnan(np.asarray(traced(model, pos + 12))).any()


def test_gradients_reach_every_weight():
    model = encoder("qk-post-norm")
    ids, mask, types = arrays(23)

    def loss(model):
        hidden = model(ids, mask, types)
        target = jnp.sin(jnp.arange(hidden.size, dtype=jnp.float32)).reshape(hidden.shape)
        return (hidden * target).sum()

    gradients = jax.grad(loss)(model).weights()
    most = max(map(largest, gradients.values()))
    for name, gradient in gradients.items():
        assert np.isfinite(np.asarray(gradient)).all(), name
        # A bias of all keys alike moves every score of a query alike: softmax does not see it.
        if name not in ("layers.attention.key.bias", "layers.attention.key_norm.shift"):
            assert largest(gradient) > VISIBLE * most, name


def test_bfloat16_weights_compute_near_float32():
    model = encoder("jinabert-geglu")
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), model)
    ids, mask, types = arrays(29)
    states = half.hidden_states(ids, mask, types)
    assert all(state.dtype == jnp.bfloat16 for state in states)
    theirs = reference_states(model, ids, mask, types)
    assert worst([s.astype(jnp.float32) for s in states], theirs, mask) < BFLOAT16


def test_a_mask_of_zeros_is_defined():
    model = encoder("bert-gelu")
    ids, mask, types = arrays(31)
    mask[1] = 0
    hidden = model(ids, mask, types)
    assert np.isfinite(np.asarray(hidden)).all()
    np.testing.assert_array_equal(np.asarray(jaxbert.mean_pool(hidden, mask))[1], 0.0)


def test_an_injected_feed_forward_and_attention_are_used():
    config = CONFIGS["jinabert-geglu"]
    calls = []

    def nothing(q, k, v, bias, positions, segments):
        calls.append(q.shape)
        return jnp.zeros_like(q)

    model = Encoder(
        config,
        rngs=nnx.Rngs(0),
        feed_forward=lambda rngs: Mlp(config.sizes, jnp.tanh, rngs=rngs, std=0.3),
        attention=nothing,
    )
    assert isinstance(model.layers.feed_forward, Mlp)
    ids, mask, types = arrays(37)
    model(ids, mask, types)
    assert calls == [(4, 3, 11, 5)]  # traced once for all layers


def test_a_seed_makes_the_weights():
    config = CONFIGS["bert-gelu"]
    a, b, c = (Encoder(config, rngs=nnx.Rngs(seed)).weights() for seed in (1, 1, 2))
    assert all((a[name] == b[name]).all() for name in a)
    assert (a["embeddings.word"] != c["embeddings.word"]).any()
    assert abs(float(a["embeddings.word"].std()) - config.initializer_range) < 5e-3
    first, second = a["layers.attention.query.weight"]
    assert (first != second).any()


def test_alibi_goes_on_beyond_the_positions_of_the_config():
    model = encoder("jinabert-reglu")
    length = model.config.max_positions + 5
    ids = np.random.default_rng(0).integers(0, 31, (1, length))
    mask = np.ones_like(ids)
    theirs = reference_states(model, ids, mask, None)
    assert worst([model(ids)], theirs[-1:], mask) < ENCODER


REFUSALS = {
    "beyond the vocabulary": (lambda m: m([[31]]), InputError, "token ids 0 ... 30"),
    "negative id": (lambda m: m([[-1]]), InputError, "holds -1"),
    "type": (lambda m: m([[1]], None, [[2]]), InputError, "token types 0 ... 1"),
    "float ids": (lambda m: m([[1.0]]), InputTypeError, "dtype float64"),
    "one axis": (lambda m: m([1, 2]), InputError, "rows, tokens"),
    "mask value": (lambda m: m([[1]], [[2]]), InputError, "mask values 0 ... 1"),
    "mask shape": (lambda m: m([[1, 2]], [[1]]), InputError, "attention_mask or segment_ids"),
    "mask and segments": (lambda m: m([[1]], [[1]], segment_ids=[[1]]), InputError, "one of them"),
    "segments": (lambda m: m([[1]], segment_ids=[[-1]]), InputError, "holds -1"),
    "positions": (lambda m: m([[1, 2]], positions=[[0]]), InputError, "positions has shape"),
    "too long": (lambda m: m(np.zeros((1, 20), int)), InputError, "learned positions for 19"),
    "position": (lambda m: m([[1]], positions=[[19]]), InputError, "learned positions for 19"),
    "ragged": (lambda m: m([[1, 2], [3]]), InputError, "rows of different lengths"),
    "no tokens": (lambda m: m(np.zeros((1, 0), int)), InputError, "with tokens"),
    "two pieces": (lambda m: m([[1] * 5], segment_ids=[[1, 1, 0, 1, 1]]), InputError, "two pieces"),
    "64 bits": (lambda m: m(np.array([[2**40]])), InputError, "beyond 32 bits"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refuses(case):
    call, kind, sentence = REFUSALS[case]
    with pytest.raises(kind, match=sentence):
        call(encoder("bert-gelu"))


def test_a_bias_for_another_number_of_heads_is_refused():
    for heads in (1, 8):
        with pytest.raises(InputError, match="must be the 3 heads"):
            make(CONFIGS["jinabert-geglu"], position=Alibi(heads))


BAD_CONFIGS = {
    "num_heads": {"num_heads": 4},
    "activation": {"activation": "swish"},
    "position": {"position": "relative_key"},
    "vocab_size": {"vocab_size": 0},
    "num_layers": {"num_layers": 2.0},
    "layer_norm_eps": {"layer_norm_eps": 0.0},
}


@pytest.mark.parametrize("field", BAD_CONFIGS)
def test_a_config_that_is_none_names_its_field(field):
    with pytest.raises(ConfigError, match=field.split("_")[-1]):
        EncoderConfig.bert(**{**vars(CONFIGS["bert-gelu"]), **BAD_CONFIGS[field]})


class Doubled(Encoder):
    """A subclass with a forward pass of its own."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


def test_a_forward_pass_of_a_subclass_is_what_a_call_runs():
    config = CONFIGS["bert-gelu"]
    ids, mask, _ = arrays(0)
    plain, doubled = (kind(config, rngs=nnx.Rngs(0)) for kind in (Encoder, Doubled))
    np.testing.assert_array_equal(doubled(ids, mask), 2 * plain(ids, mask))


class Typed(Encoder):
    """A subclass that has a field with the name of a common property."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.dtype = jnp.float32


class Tables(nnx.Module):
    """Embeddings whose table has a name of its own."""

    def __init__(self, config, components, *, rngs):
        self.tokens = nnx.Param(jnp.ones((config.vocab_size, config.hidden_size)))

    def __call__(self, inputs, scheme):
        return self.tokens[...][inputs.ids]


def test_subclasses_and_embeddings_may_name_their_fields():
    config = CONFIGS["bert-gelu"]
    assert np.isfinite(np.asarray(Typed(config, rngs=nnx.Rngs(0))([[1, 2]]))).all()
    model = Encoder(config, rngs=nnx.Rngs(0), embeddings=Tables)
    assert np.isfinite(np.asarray(model([[1, 2]]))).all()
