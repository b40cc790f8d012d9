"""A model saved and loaded again is the same model; what no file can say is refused."""

import copy
import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file
from tokenizers import normalizers

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint.sentence_transformers.pooling import MODES
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack
from jaxbert.errors import CheckpointError
from jaxbert.model.attention import ATTENTIONS, Blockwise, dense
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.model.position import Alibi
from jaxbert.model.position_schemes import Rope
from jaxbert.model.qk_norm import QueryKeyNorm, SecondResidual
from jaxbert.model.transformer import Layer
from jaxbert.text.tokenizer import Tokenizer
from tests.models import (
    ALL_FOLDERS,
    CONFIGS,
    SIZES,
    arrays,
    encoder,
    make,
    published,
    randomised,
    sharded,
    word_tokenizer,
    write_folder,
)
from tests.tolerances import COMPANY, close, norms

SAVED = [name for name in CONFIGS if name != "no-position"]
TEXTS = ["a b c", "", "de f", "q " * 30]


def same_weights(a, b):
    """Bit for bit, and of one dtype."""
    assert a.config == b.config
    assert set(a.weights()) == set(b.weights())
    for name, weight in a.weights().items():
        other = b.weights()[name]
        assert weight.dtype == other.dtype, name
        assert np.asarray(weight).tobytes() == np.asarray(other).tobytes(), name


def by_hand(config="jinabert-geglu", **fields):
    """A model that never was in a folder."""
    return Embedder(encoder(config), Tokenizer(word_tokenizer(), "right"), Stack(**fields))


@pytest.mark.parametrize(
    "changes", [{"feed_forward": "glu"}, {"query_key_norm": True}], ids=lambda one: next(iter(one))
)
@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")
def test_learned_positions_with_parts_of_jinabert_save_and_load(tmp_path, changes):
    own = make(EncoderConfig.bert(**SIZES | changes))
    own.save_pretrained(tmp_path)
    same_weights(own, Encoder.from_pretrained(tmp_path))


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")
@pytest.mark.parametrize("name", SAVED)
def test_an_encoder_made_in_python_saves_and_loads(tmp_path, name):
    encoder(name).save_pretrained(tmp_path / "deep" / "new")
    again = Encoder.from_pretrained(tmp_path / "deep" / "new")
    same_weights(encoder(name), again)
    stored = load_file(tmp_path / "deep" / "new" / "model.safetensors")
    expected = published(encoder(name))
    assert set(stored) == set(expected)
    for key, tensor in expected.items():
        np.testing.assert_array_equal(stored[key], tensor)


def test_bfloat16_stays_bfloat16(tmp_path):
    write_folder(tmp_path / "a")
    own = Encoder.from_pretrained(tmp_path / "a", dtype="bfloat16")
    own.save_pretrained(tmp_path / "b")
    header = load_file(tmp_path / "b" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in header.values()} == {"bfloat16"}
    same_weights(own, Encoder.from_pretrained(tmp_path / "b", dtype="bfloat16"))


def test_config_has_what_the_published_code_reads(tmp_path):
    encoder("qk-post-norm").save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["auto_map"] == {
        "AutoConfig": "jinaai/jina-bert-v2-qk-post-norm--configuration_bert.JinaBertConfig",
        "AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel",
    }
    chosen = {
        key: raw[key] for key in ("feed_forward_type", "position_embedding_type", "emb_pooler")
    }
    assert list(chosen.values()) == ["geglu", "alibi", "mean"]
    # With the one transformers 5 would take a plain BERT for it, and it refuses the other.
    assert not {"model_type", "attn_implementation"} & set(raw)
    assert raw["_name_or_path"] == "jinaai/jina-bert-v2-qk-post-norm"


class OtherSlopes(Alibi):
    """The same leaves, another bias."""


@pytest.mark.parametrize(
    ("make_it", "reason"),
    [
        (lambda: encoder("no-position"), "no words for none positions"),
        (lambda: make(CONFIGS["jinabert-geglu"], position=Rope()), "position are not what"),
        (lambda: make(CONFIGS["jinabert-geglu"], position=OtherSlopes(3)), "position are not what"),
        (lambda: make(EncoderConfig.jinabert(**SIZES | {"activation": "silu"})), "a glu of silu"),
        (lambda: make(EncoderConfig.jinabert(**SIZES | {"feed_forward_bias": False})), "a mixture"),
        (lambda: make(EncoderConfig.bert(**SIZES | {"second_residual": True})), "a mixture"),
        (lambda: make(EncoderConfig.bert(**SIZES | {"feed_forward_bias": False})), "a mixture"),
    ],
)
def test_what_no_file_can_say(tmp_path, make_it, reason):
    with pytest.raises(CheckpointError, match=reason):
        make_it().save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_feed_forward_is_not_written_as_the_usual_one(tmp_path):
    class Square(nnx.Module):
        def __init__(self, rngs):
            self.weight = nnx.Param(jnp.ones((15, 15)))

        def __call__(self, x):
            return x @ self.weight[...]

    own = Encoder(CONFIGS["jinabert-geglu"], rngs=nnx.Rngs(0), feed_forward=Square)
    with pytest.raises(CheckpointError, match="layers are not what"):
        own.save_pretrained(tmp_path)


# --- whole models ------------------------------------------------------------------------------


def test_a_model_made_in_python_saves_and_loads(tmp_path):
    random = np.random.default_rng(0)
    weight = random.normal(size=(9, 30)).astype(np.float32)
    own = by_hand(
        pooling=Pooling(("weightedmean", "max"), include_prompt=False),
        after=(Dense(weight, weight[:, 0], "Tanh"), Dense(weight[:, :9], None, "Identity")),
        max_length=17,
        lower_case=True,
        prompts={"query": "a b ", "document": ""},
        default_prompt_name="query",
        similarity="dot",
        truncate_dim=7,
    )
    own.save_pretrained(tmp_path)
    again = Embedder.from_pretrained(tmp_path)
    assert again.encode(TEXTS).shape == (4, 7)
    np.testing.assert_array_equal(again.encode(TEXTS), own.encode(TEXTS))
    for field in ("pooling", "max_length", "prompts", "default_prompt_name", "similarity"):
        assert getattr(again.stack, field) == getattr(own.stack, field), field
    assert again.stack.lower_case


@pytest.mark.parametrize(
    "modes", [("mean",), ("cls", "mean"), ("mean", "cls"), ("max", "max"), MODES, MODES[::-1]]
)
def test_every_way_of_pooling_is_written(tmp_path, modes):
    by_hand(pooling=Pooling(modes), after=(Normalize(),)).save_pretrained(tmp_path)
    stack = read_stack(tmp_path, CONFIGS["jinabert-geglu"])
    assert stack.pooling.modes == modes
    assert stack.after == (Normalize(),)


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_folder_comes_back_bit_for_bit(tmp_path, dtype, shards):
    tensors = published(encoder("bert-gelu")) | {"pooler.dense.bias": np.ones(15, np.float32)}
    folder = write_folder(tmp_path / "a", tensors=tensors, dtype=dtype)
    if shards == 2:
        sharded(folder)
    Embedder.from_pretrained(folder).save_pretrained(tmp_path / "b")
    for file in folder.glob("*.safetensors"):
        ours = load_file(tmp_path / "b" / file.name)
        for name, tensor in load_file(file).items():
            assert tensor.dtype == ours[name].dtype == dtype
            assert tensor.tobytes() == ours.pop(name).tobytes()
        assert not ours
    ours, theirs = (
        [
            json.loads((tmp_path / name / file).read_text())
            for file in ("config.json", "tokenizer.json")
        ]
        for name in ("b", "a")
    )
    assert ours == theirs


def test_nothing_of_another_model_is_left_in_the_folder(tmp_path):
    sharded(write_folder(tmp_path / "new", "jinabert-geglu"))
    old = write_folder(tmp_path / "old", "jinabert-geglu")
    (old / "vocab.txt").write_text("[PAD]\n")
    other = Embedder(
        randomised(encoder("jinabert-geglu"), seed=7), Tokenizer(word_tokenizer(), "right")
    )
    other.save_pretrained(old)
    assert not (old / "vocab.txt").exists()
    own = Embedder.from_pretrained(tmp_path / "new")
    own.save_pretrained(old)
    assert not (old / "model.safetensors").exists()
    np.testing.assert_array_equal(Embedder.from_pretrained(old).encode(TEXTS), own.encode(TEXTS))
    other.save_pretrained(old)
    assert [file.name for file in old.glob("model*")] == ["model.safetensors"]
    np.testing.assert_array_equal(Embedder.from_pretrained(old).encode(TEXTS), other.encode(TEXTS))


def test_a_model_may_be_saved_where_it_came_from(tmp_path):
    folder = write_folder(tmp_path, "jinabert-geglu")
    own = Embedder.from_pretrained(folder)
    own.truncate_dim = 7
    before = own.encode(TEXTS)
    own.save_pretrained(folder)
    np.testing.assert_array_equal(Embedder.from_pretrained(folder).encode(TEXTS), before)
    assert not list(folder.glob("*.partial"))


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")
@pytest.mark.parametrize("folder", ALL_FOLDERS, ids=lambda folder: folder.name)
def test_golden_encoders_survive_the_way_through_our_own_names(tmp_path, folder):
    own = Encoder.from_pretrained(folder)
    own.save_pretrained(tmp_path)
    same_weights(own, Encoder.from_pretrained(tmp_path))


def test_changed_weights_are_what_is_saved(tmp_path):
    folder = write_folder(tmp_path / "a", "jinabert-geglu")
    own = Embedder.from_pretrained(folder)
    other = Embedder(randomised(own.encoder, seed=5), own.tokenizer, own.stack)
    other.save_pretrained(tmp_path / "b")
    again = Embedder.from_pretrained(tmp_path / "b")
    close(again.encode(TEXTS), other.encode(TEXTS), COMPANY, norms)
    assert np.abs(again.encode(TEXTS) - own.encode(TEXTS)).max() > 0.1
    ids, mask, _ = arrays(1)
    np.testing.assert_array_equal(again.encoder(ids, mask), other.encoder(ids, mask))


# --- what no file can say ------------------------------------------------------------------------


def own_attention(q, k, v, bias, positions, segments):
    """The mean of all values, whoever asks."""
    return jnp.broadcast_to(v.mean(axis=2, keepdims=True), v.shape)


class OtherForward(Encoder):
    def forward(self, inputs):
        return -super().forward(inputs)


class OtherCall(Encoder):
    def __call__(self, *texts, **more):
        return -super().__call__(*texts, **more)


class OtherLayer(Layer):
    def __call__(self, x, place, attention):
        return -super().__call__(x, place, attention)


def with_layers(own):
    vars(own.layers)["feed_forward"] = own.layers.feed_forward
    layers = object.__new__(OtherLayer)
    vars(layers).update(vars(own.layers))
    own.layers = layers


def patched(name, value):
    """A change of one field, whose path has dots."""

    def change(own):
        *path, last = name.split(".")
        for step in path:
            own = getattr(own, step)
        setattr(own, last, value)

    return change


def stacked(kind, own):
    """A part that the config does not name, for each layer."""
    return jax.tree.map(lambda x: jnp.stack([x] * 2), kind(own.config.sizes, 1e-6))


def config_of(**changes):
    return lambda own: setattr(own, "config", replace(own.config, **changes))


SURGERY = {
    "attention": (patched("attention", own_attention), "attention is <function own_attention"),
    "lambda": (patched("attention", lambda q, *more: q), "attention is <function <lambda>"),
    "partial": (patched("attention", partial(dense)), "attention is functools.partial"),
    "coarse": (patched("attention", Blockwise(tolerance=0.1)), "attention is Blockwise"),
    "activation": (
        patched("layers.feed_forward.activation", jnp.tanh),
        "layers are not .*layers.feed_forward.activation is",
    ),
    "eps": (patched("embeddings.norm.eps", 0.1), "embeddings are not .*norm.eps is 0.1"),
    "product": (patched("layers.attention.query.spec", "btd,dnh->bthn"), "query.spec"),
    "head norm": (
        lambda own: setattr(own.layers.attention, "query_norm", stacked(QueryKeyNorm, own)),
        "layers are not .*query_norm",
    ),
    "rejoin": (
        lambda own: setattr(own.layers, "rejoin", stacked(SecondResidual, own)),
        "layers are not .*rejoin",
    ),
    "scheme": (patched("position", Alibi(3)), "position are not"),
    "scheme's method": (patched("position.embed", lambda x, pos: x), "position are not"),
    "layer": (with_layers, "layers are not .*OtherLayer"),
    "method": (patched("forward", lambda inputs: 0), "forward of this Encoder was replaced"),
    "config's activation": (config_of(activation="relu"), "layers are not .*activation"),
    "config's eps": (config_of(layer_norm_eps=1e-3), "embeddings are not .*eps"),
    "config's length": (config_of(max_positions=17), "position.table has shape"),
    "config's layers": (config_of(num_layers=1), "has shape .* implies"),
    "config's vocabulary": (config_of(vocab_size=29), "embeddings.word has shape"),
    "config": (patched("config", None), "config is a NoneType"),
    "shape": (
        lambda own: own.embeddings.word.set_value(jnp.ones((31, 7))),
        "embeddings.word has shape",
    ),
    "dtype": (
        lambda own: own.embeddings.word.set_value(jnp.ones((31, 15), jnp.int8)),
        "embeddings.word is int8",
    ),
    "NaN": (
        lambda own: own.embeddings.word.set_value(jnp.full((31, 15), jnp.nan)),
        "embeddings.word_embeddings.weight holds NaN",
    ),
    "weight": (lambda own: setattr(own, "more", nnx.Param(jnp.ones(3))), "more is of its own"),
}


@pytest.mark.parametrize("whole", [False, True], ids=["encoder", "embedder"])
@pytest.mark.parametrize("change", SURGERY)
def test_a_changed_encoder_is_refused_before_anything_is_written(tmp_path, change, whole):
    loaded = Embedder.from_pretrained(write_folder(tmp_path / "a"))
    operate, reason = SURGERY[change]
    operate(loaded.encoder)
    models = [loaded] if whole else [loaded.encoder]
    if whole and change not in ("config", "config's layers"):  # of which no Embedder can be made
        models.append(Embedder(loaded.encoder, loaded.tokenizer))
    for own in models:
        with pytest.raises(CheckpointError, match=reason):
            own.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())


@pytest.mark.parametrize("kind", [OtherForward, OtherCall])
def test_a_subclass_that_computes_something_else_is_refused(tmp_path, kind):
    own = kind(CONFIGS["bert-gelu"], rngs=nnx.Rngs(0))
    with pytest.raises(CheckpointError, match=f"{kind.__name__} is an encoder with a "):
        own.save_pretrained(tmp_path / "new")
    with pytest.raises(CheckpointError, match=f"{kind.__name__} is an encoder with a "):
        Embedder(own, Tokenizer(word_tokenizer(), "right")).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_subclass_with_further_methods_is_saved(tmp_path):
    class Named(Encoder):
        def __init__(self, config, **more):
            super().__init__(config, **more)
            self.title = "mine"

        def further(self):
            return self.config

    Named(CONFIGS["bert-gelu"], rngs=nnx.Rngs(0)).save_pretrained(tmp_path)
    Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", [*ATTENTIONS, "exact", "small"])
def test_the_attentions_of_the_package_are_saved(tmp_path, name):
    other = {"exact": Blockwise(tolerance=0.0), "small": Blockwise(queries=5, keys=3)}
    attention = other[name] if name in other else ATTENTIONS[name]
    Encoder(CONFIGS["bert-gelu"], rngs=nnx.Rngs(0), attention=attention).save_pretrained(tmp_path)
    assert Encoder.from_pretrained(tmp_path).config == CONFIGS["bert-gelu"]


def test_surgery_of_nnx_that_changes_nothing_is_saved(tmp_path):
    own = randomised(encoder("bert-gelu"), seed=3)
    for again in (nnx.merge(*nnx.split(own)), nnx.clone(own), copy.deepcopy(own)):
        again.save_pretrained(tmp_path)
        same_weights(Encoder.from_pretrained(tmp_path), own)


def test_embedders_that_files_cannot_describe_are_refused(tmp_path):
    class Louder(Embedder):
        def encode(self, *texts, **more):
            return 2 * super().encode(*texts, **more)

    class Cutter(Tokenizer):
        def __call__(self, *texts, **more):
            return [ids[:3] for ids in super().__call__(*texts, **more)]

    parts = encoder("jinabert-geglu"), Tokenizer(word_tokenizer(), "right")
    refused = {
        "Louder is an Embedder with a encode": Louder(*parts),
        "Cutter is a Tokenizer with a __call__": Embedder(
            parts[0], Cutter(word_tokenizer(), "right")
        ),
        "the stack has 'truncate_dim 0'": by_hand(truncate_dim=0),
        "prompts": by_hand(prompts={"query": "\ud800"}),
    }
    patched_one = Embedder(*parts)
    patched_one.encode = lambda texts: 0
    refused["encode of this Embedder was replaced"] = patched_one
    for reason, own in refused.items():
        with pytest.raises(CheckpointError, match=reason):
            own.save_pretrained(tmp_path / "new")
        assert not (tmp_path / "new").exists()


def test_a_tokenizer_that_was_changed_is_not_saved_as_the_one_of_its_folder(tmp_path):
    own = Embedder.from_pretrained(write_folder(tmp_path / "a"))
    own.tokenizer.backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    with pytest.raises(CheckpointError, match="tokenizer was changed"):
        own.save_pretrained(tmp_path / "b")
    own.tokenizer.folder = None
    own.save_pretrained(tmp_path / "b")
    np.testing.assert_array_equal(
        Embedder.from_pretrained(tmp_path / "b").encode(["A"]), own.encode(["A"])
    )


def test_trained_weights_are_not_rounded_to_the_dtype_of_the_file(tmp_path):
    own = Embedder.from_pretrained(write_folder(tmp_path / "a", dtype=np.float16))
    word = own.encoder.embeddings.word
    word.set_value(word[...] + jnp.float32(2**-20))
    own.save_pretrained(tmp_path / "b")
    same_weights(Encoder.from_pretrained(tmp_path / "b"), own.encoder)
    stored = load_file(tmp_path / "b" / "model.safetensors")
    assert sorted({str(tensor.dtype) for tensor in stored.values()}) == ["float16", "float32"]
