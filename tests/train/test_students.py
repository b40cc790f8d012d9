"""What training begins with: layers of a teacher, another architecture, random weights."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from jaxbert import Encoder, EncoderConfig
from jaxbert.errors import ConfigError, InputError
from jaxbert.model.families.modernbert import ModernBertConfig
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.students import (
    PRESETS,
    as_jinabert,
    at_random,
    keep_layers,
    named_config,
    special_ids,
    vocabulary,
)
from tests.models import CONFIGS, GOLDEN, SIZES, make, word_tokenizer
from tests.tolerances import ENCODER, close, off

FIVE = EncoderConfig.bert(**SIZES | {"num_layers": 5})
IDS = np.array([[2, 9, 11, 7, 3], [2, 5, 3, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)


# --- layers that are kept ------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(0, 2, 4), (3,), (4, 0)])
def test_a_student_has_the_layers_that_are_named(layers):
    teacher = make(FIVE)
    student = keep_layers(teacher, layers)
    assert student.config == EncoderConfig.bert(**SIZES | {"num_layers": len(layers)})
    states = student.hidden_states(IDS, MASK)
    assert len(states) == len(layers) + 1
    close(states[0], teacher.hidden_states(IDS, MASK)[0], ENCODER)
    for place, i in enumerate(layers):
        own, old = (jax.tree.leaves(x) for x in (student.layer(place), teacher.layer(i)))
        for a, b in zip(own, old, strict=True):
            np.testing.assert_array_equal(a, b)
    assert teacher.config == FIVE


def test_all_layers_in_order_are_the_teacher():
    teacher = make(FIVE)
    student = keep_layers(teacher, range(5))
    np.testing.assert_array_equal(student(IDS, MASK), teacher(IDS, MASK))


def test_a_student_can_be_saved(tmp_path):
    student = keep_layers(make(FIVE), (1, 3))
    student.save_pretrained(tmp_path)
    again = Encoder.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(IDS, MASK), student(IDS, MASK))


@pytest.mark.parametrize(
    ("layers", "match"),
    [
        ((0, 5), "a layer is 5; it must be from 0 to 4"),
        ((-1,), "a layer is -1; it must be from 0 to 4"),
        ((), "no layer is to be kept; name some"),
    ],
)
def test_layers_that_are_not_there(layers, match):
    with pytest.raises(InputError, match=match):
        keep_layers(make(FIVE), layers)


def test_layers_that_differ_by_their_number_all_stay():
    encoder = Encoder.from_pretrained(GOLDEN / "modernbert")
    assert isinstance(encoder.config, ModernBertConfig)
    with pytest.raises(InputError, match="the layers of a ModernBERT see more or less"):
        keep_layers(encoder, (0,))


# --- a JinaBERT of a BERT ------------------------------------------------------------------------


def test_a_jinabert_has_the_attention_and_tables_of_the_bert():
    bert = make(FIVE)
    jina = as_jinabert(bert, seed=3)
    assert jina.config == EncoderConfig.jinabert(
        **SIZES | {"num_layers": 5, "intermediate_size": 8, "max_positions": 8192}
    )
    old, new = bert.weights(), jina.weights()
    shared = {name for name in new if name in old and "feed_forward" not in name}
    assert {"embeddings.word", "layers.attention.query.weight", "layers.output_norm.scale"} < shared
    for name in shared:
        np.testing.assert_array_equal(new[name], old[name])
    fresh = set(new) - shared
    assert fresh == {f"layers.feed_forward.{n}" for n in ("up.weight", "down.weight", "down.bias")}
    other = as_jinabert(bert, seed=4).weights()
    assert off(new["layers.feed_forward.up.weight"], other["layers.feed_forward.up.weight"]) > 0.1
    assert as_jinabert(bert, 11).config.intermediate_size == 11


def test_a_jinabert_of_a_bert_takes_texts_of_any_length(tmp_path):
    jina = as_jinabert(keep_layers(make(FIVE), (0, 4)))
    ids = np.resize(IDS[0], (1, 4 * SIZES["max_positions"]))
    states = jina(ids)
    jina.save_pretrained(tmp_path)
    np.testing.assert_array_equal(Encoder.from_pretrained(tmp_path)(ids), states)
    assert np.isfinite(states).all()


@pytest.mark.parametrize("name", ["jinabert-geglu", "no-position"])
def test_only_a_bert_becomes_a_jinabert(name):
    with pytest.raises(InputError, match="only a BERT with learned ones can become a JinaBERT"):
        as_jinabert(make(CONFIGS[name]))


# --- at random -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name):
    config = named_config(name, 31)
    family, size = name.split("-")
    assert config.position == {"bert": "learned", "jinabert": "alibi"}[family]
    assert (config.vocab_size, config.num_layers) == (31, 2 if size == "tiny" else 4)


def config_file(folder, **changes):
    raw = {"hidden_size": 12, "num_layers": 1, "num_heads": 3, "intermediate_size": 7}
    raw |= {"position": "learned", "feed_forward": "mlp", "activation": "gelu"} | changes
    (folder / "config.json").write_text(json.dumps(raw))
    return str(folder / "config.json")


def test_a_config_of_a_file(tmp_path):
    found = named_config(config_file(tmp_path, max_positions=17), 31)
    assert (found.vocab_size, found.max_positions, found.hidden_size) == (31, 17, 12)
    assert named_config(config_file(tmp_path, vocab_size=40), 31).vocab_size == 40


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"heads": 3}, "has heads, which is no field of EncoderConfig; known are activation"),
        ({"vocab_size": 30}, "vocab_size 30, and the tokenizer gives ids up to 30; raise it"),
        ({"hidden_size": 13}, "hidden_size 13 cannot be split over 3 heads"),
        ({"num_layers": "two"}, "num_layers is 'two'"),
    ],
)
def test_configs_that_describe_no_encoder(tmp_path, changes, match):
    with pytest.raises(ConfigError, match=match):
        named_config(config_file(tmp_path, **changes), 31)


def test_a_config_that_lacks_a_size(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 12}')
    with pytest.raises(ConfigError, match="describes no encoder: "):
        named_config(str(tmp_path / "config.json"), 31)


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="bert-huge is no JSON file and no preset; presets are"):
        named_config("bert-huge", 31)


def test_weights_are_those_of_the_seed():
    one, same, other = (at_random(CONFIGS["bert-gelu"], seed) for seed in (0, 0, 1))
    word = "embeddings.word"
    np.testing.assert_array_equal(one.weights()[word], same.weights()[word])
    assert off(one.weights()[word], other.weights()[word]) > 0.1
    np.testing.assert_array_equal(
        one.weights()[word], Encoder(CONFIGS["bert-gelu"], rngs=nnx.Rngs(0)).weights()[word]
    )


def test_the_vocabulary_of_a_tokenizer():
    own = Tokenizer(word_tokenizer(), "right")
    assert vocabulary(own) == 31
    assert special_ids(own) == (0, 1, 2, 3, 4)
    own.backend.add_special_tokens(["[NEW]"])
    assert vocabulary(own) == 32
    assert special_ids(own) == (0, 1, 2, 3, 4, 31)
