"""A model saved and loaded again is the same model; what no file can say is refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from jaxbert import Embedder, Encoder
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.model.position import Alibi
from jaxbert.model.position_schemes import Rope
from jaxbert.modules import MODES
from jaxbert.stack import Stack, read_stack
from jaxbert.tokenizer import Tokenizer
from tests.models import (
    CONFIGS,
    FOLDERS,
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
from tests.tolerances import FUNCTION

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
@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.UnverifiedModelWarning")
def test_learned_positions_with_parts_of_jinabert_save_and_load(tmp_path, changes):
    own = make(EncoderConfig.bert(**SIZES | changes))
    own.save_pretrained(tmp_path)
    same_weights(own, Encoder.from_pretrained(tmp_path))


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.UnverifiedModelWarning")
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
    assert raw["model_type"] == "bert"
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


@pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.UnverifiedModelWarning")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
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
    np.testing.assert_allclose(again.encode(TEXTS), other.encode(TEXTS), atol=FUNCTION)
    assert np.abs(again.encode(TEXTS) - own.encode(TEXTS)).max() > 0.1
    ids, mask, _ = arrays(1)
    np.testing.assert_array_equal(again.encoder(ids, mask), other.encoder(ids, mask))
