"""Families beside BERT and JinaBERT: packing, tiles, dtypes, saving, and what is refused."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint.classifier import load_classifier
from jaxbert.checkpoint.tensors import open_folder
from jaxbert.errors import CheckpointError, ConfigError, InputError
from jaxbert.model import reference
from jaxbert.model.attention import blockwise, dense
from jaxbert.model.families.embeddings import positions_without_padding
from jaxbert.model.families.modernbert import ModernBertConfig
from jaxbert.model.families.mpnet import MpnetConfig
from jaxbert.model.families.roberta import RobertaConfig
from jaxbert.model.families.t5 import T5Config
from tests.model.test_reference_families import plain
from tests.models import FAMILY_FOLDERS, GOLDEN, T5_FOLDERS
from tests.tolerances import ENCODER, GOLDEN_ENCODER, VISIBLE, close, off

NAMES = [folder.name for folder in FAMILY_FOLDERS]
LENGTHS = (13, 29, 7)


def texts(name, seed=0):
    """Random ids of three texts, none of which is padding, and the config of the folder."""
    raw = json.loads((GOLDEN / name / "config.json").read_text())
    random = np.random.default_rng(seed)
    return [random.integers(4, raw["vocab_size"], (1, length)) for length in LENGTHS], raw


@pytest.mark.parametrize("attention", [dense, blockwise], ids=["dense", "blockwise"])
@pytest.mark.parametrize("name", NAMES)
def test_packed_texts_have_the_states_that_they_have_alone(name, attention):
    model = Encoder.from_pretrained(GOLDEN / name, attention=attention)
    own, _ = texts(name)
    segments = np.repeat([1, 2, 3], LENGTHS)[None]
    row, tail = np.concatenate(own, axis=1), np.zeros((1, 5), int)
    packed = model(
        np.concatenate([row, tail], axis=1),
        segment_ids=np.concatenate([segments, tail], axis=1),
    )
    for number, ids in enumerate(own, start=1):
        alone = np.asarray(model(ids))[0]
        close(np.asarray(packed)[0, :-5][segments[0] == number], alone, ENCODER)


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_the_right_changes_nothing(name):
    model = Encoder.from_pretrained(GOLDEN / name)
    (ids, *_), raw = texts(name, seed=1)
    padding = raw.get("pad_token_id") or 0
    more = np.full((1, 6), padding)
    padded = model(np.concatenate([ids, more], 1), np.concatenate([ids > -1, more < 0], 1))
    close(np.asarray(padded)[:, :-6], np.asarray(model(ids)), ENCODER)


# XLM-R and MPNet count by ids, the others have no positions in the states.
@pytest.mark.parametrize(
    "name", ["t5-relu-3heads", "mpnet", "nomic", "modernbert", "xlmr-reranker"]
)
def test_padding_on_the_left_changes_nothing(name):
    model = Encoder.from_pretrained(GOLDEN / name)
    (ids, *_), raw = texts(name, seed=2)
    more = np.full((1, 5), raw.get("pad_token_id") or 0)
    padded = model(np.concatenate([more, ids], 1), np.concatenate([more < 0, ids > -1], 1))
    close(np.asarray(padded)[:, 5:], np.asarray(model(ids)), ENCODER)


@pytest.mark.parametrize("name", ["mpnet", "xlmr-reranker"])
def test_padding_in_the_middle_of_a_text_has_no_position(name):
    model = Encoder.from_pretrained(GOLDEN / name)
    (_, ids, _), raw = texts(name, seed=3)
    ids[0, [4, 9]] = raw["pad_token_id"]
    mask = np.ones_like(ids)
    tensors = plain(load_file(GOLDEN / name / "model.safetensors"))
    expected = reference.encode(tensors, raw, ids, mask)[-1]
    close(np.asarray(model(ids, mask)), expected, GOLDEN_ENCODER)


def test_positions_without_padding():
    ids = np.array([[1, 1, 5, 6, 1, 7, 5, 1, 8, 0]])
    positions = np.array([[0, 1, 2, 3, 4, 5, 0, 1, 2, 0]])  # a second text begins at index 6
    found = positions_without_padding(jnp.asarray(ids), jnp.asarray(positions), 1)
    assert np.asarray(found).tolist() == [[-1, -1, 0, 1, -1, 2, 0, -1, 1, 0]]


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_stays_near_float32(name):
    wide = Encoder.from_pretrained(GOLDEN / name)
    narrow = Encoder.from_pretrained(GOLDEN / name, dtype="bfloat16")
    ids = texts(name)[0][1]
    # bfloat16 has 8 bits: 2^-8 for each of some ten roundings in a row.
    assert off(np.asarray(narrow(ids), np.float32), wide(ids)) < 10 * 2**-8
    assert narrow(ids).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", T5_FOLDERS)
def test_states_of_t5_are_float32_between_layers_whatever_the_dtype(name):
    model = Encoder.from_pretrained(GOLDEN / name, dtype="bfloat16")
    first, *_ = model.hidden_states(texts(name)[0][0])
    assert first.dtype == jnp.float32
    # Scaled so far that a float16 state would be infinite.
    large = Encoder.from_pretrained(GOLDEN / name, dtype="bfloat16")
    large.layers.feed_forward.down.weight[...] *= 1e6
    states = large.hidden_states(texts(name)[0][0])
    assert np.abs(np.asarray(states[1])).max() > 65_504
    assert np.isfinite(np.asarray(states[-1], np.float32)).all()


@pytest.mark.parametrize("name", T5_FOLDERS)
def test_texts_of_t5_give_the_stored_vectors(name):
    stored = json.loads((GOLDEN / name / "texts.json").read_text())
    embedder = Embedder.from_pretrained(GOLDEN / name)
    assert embedder.max_seq_length == stored["max_seq_length"]
    ids = embedder.tokenizer(stored["texts"], embedder.max_seq_length)
    assert [row.tolist() for row in ids] == stored["input_ids"]
    close(embedder.encode(stored["texts"]), np.array(stored["vectors"]), GOLDEN_ENCODER)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_text_of_t5_does_not_depend_on_the_others(deterministic):
    embedder = Embedder.from_pretrained(GOLDEN / "t5-gated-gelu", deterministic=deterministic)
    many = ["a", "How many people live in Berlin?", "", "the city of Berlin " * 5] * 3
    alone = np.concatenate([embedder.encode([text]) for text in many])
    together = embedder.encode(many)
    if deterministic:
        np.testing.assert_array_equal(together, alone)
    else:
        close(together, alone, ENCODER)


def test_last_hidden_state_is_what_a_call_gives():
    for name in ("t5-relu-3heads", "modernbert", "mpnet"):
        model = Encoder.from_pretrained(GOLDEN / name)
        ids = texts(name)[0][0]
        np.testing.assert_allclose(model.hidden_states(ids)[-1], model(ids), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_attention_probabilities_sum_to_one(name):
    model = Encoder.from_pretrained(GOLDEN / name)
    maps = model.attentions(texts(name)[0][1])
    for weights in maps:
        np.testing.assert_allclose(np.asarray(weights).sum(-1), 1.0, atol=1e-5)


def test_a_local_layer_sees_its_window_and_no_further():
    model = Encoder.from_pretrained(GOLDEN / "modernbert")  # a window of 16, layer 1 is local
    maps = [np.asarray(weights)[0] for weights in model.attentions(texts("modernbert")[0][1])]
    distance = np.abs(np.subtract.outer(np.arange(29), np.arange(29)))
    for i, weights in enumerate(maps):
        assert (weights[:, distance > 8] == 0).all() == (i in (1, 2))
        assert (weights[:, distance <= 8] > 0).all()


def test_logits_of_the_stored_reranker():
    stored = open_folder(GOLDEN / "xlmr-reranker")
    golden = load_file(GOLDEN / "xlmr-reranker" / "golden.safetensors")
    ids, mask = golden["input_ids"], golden["attention_mask"]
    states = Encoder.from_checkpoint(stored)(ids, mask)
    logits = jax.jit(lambda head, *given: head(*given))(load_classifier(stored), states, mask != 0)
    close(np.asarray(logits), golden["logits"], GOLDEN_ENCODER)


# --- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", T5_FOLDERS)
def test_trained_weights_of_a_whole_model_are_saved_under_every_name(name, tmp_path):
    embedder = Embedder.from_pretrained(GOLDEN / name)
    encoder = Encoder.from_pretrained(GOLDEN / name)
    encoder.embeddings.word[...] *= 1.5
    trained = Embedder(encoder, embedder.tokenizer, embedder.stack)
    trained.save_pretrained(tmp_path)
    again = Embedder.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.encode(["a b"]), trained.encode(["a b"]))
    assert off(again.encode(["a b"]), embedder.encode(["a b"])) > VISIBLE


# --- what is refused -----------------------------------------------------------------------------


def changed(tmp_path, name, drop=(), tensors=None, **keys):
    """A copy of a golden folder with other keys in config.json, or other tensors."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / name, folder)
    file = folder / "config.json"
    raw = json.loads(file.read_text()) | keys
    file.write_text(json.dumps({key: value for key, value in raw.items() if key not in drop}))
    if tensors is not None:
        held = tensors(load_file(folder / "model.safetensors"))
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


T5, XLMR = "t5-gated-gelu", "xlmr-reranker"
REFUSED = {
    "a decoder": (T5, {"is_decoder": True}, "is_decoder = True"),
    "T5 with a relative bias per layer": (T5, {"model_type": "umt5"}, "of its own in every layer"),
    "T5 of another class": (T5, {"architectures": ["T5ForTokens"]}, "'T5ForTokens'"),
    "T5 that is a BERT": (T5, {"architectures": ["BertModel"]}, "'BertModel'"),
    "T5 with strange code": (T5, {"auto_map": {"AutoModel": "my.T5"}}, "code that is not under"),
    "T5 without a gate": (T5, {"is_gated_act": False}, "lacks .*DenseReluDense.wi.weight"),
    "T5 of an unknown activation": (T5, {"dense_act_fn": "mish"}, "activation 'mish'"),
    "T5 of an unknown feed-forward": (T5, {"feed_forward_proj": "moe-gelu"}, "'moe-gelu'"),
    "T5 of other heads": (T5, {"num_heads": 2, "d_kv": 16}, "implies \\(32, 2\\)"),
    "T5 of other buckets": (T5, {"relative_attention_num_buckets": 30}, "implies \\(30, 4\\)"),
    "T5 of too few buckets": (T5, {"relative_attention_num_buckets": 2}, "\\(2, 4\\)"),
    "T5 of more layers": (T5, {"num_layers": 3}, "num_layers = 3"),
    "T5 of a float size": (T5, {"d_kv": 8.0}, "8.0"),
    "XLM-R with BERT's padding": (XLMR, {"pad_token_id": 0}, "pad_token_id = 0; positions"),
    "XLM-R with BERT's table": (XLMR, {"max_position_embeddings": 48}, "implies \\(48, 36\\)"),
    "XLM-R of no positions": (XLMR, {"max_position_embeddings": 2}, "2 rows before"),
    "XLM-R that decodes": (XLMR, {"is_decoder": True}, "is_decoder"),
    "XLM-R that is a BERT": (
        XLMR,
        {"model_type": "bert"},
        "'roberta.' is not understood in a BERT",
    ),
    "XLM-R with relative keys": (XLMR, {"position_embedding_type": "relative_key"}, "relative_key"),
    "MPNet with BERT's padding": ("mpnet", {"pad_token_id": 0}, "pad_token_id = 0"),
    "MPNet of other buckets": ("mpnet", {"relative_attention_num_buckets": 30}, "\\(30, 3\\)"),
    "DistilBERT with BERT's keys": ("distilbert", {"model_type": "bert"}, "DistilBertModel"),
    "nomic-bert, interleaved": ("nomic", {"rotary_emb_interleaved": True}, "interleaved = True"),
    "nomic-bert, half rotated": ("nomic", {"rotary_emb_fraction": 0.5}, "fraction = 0.5"),
    "nomic-bert with biases": ("nomic", {"qkv_proj_bias": True}, "qkv_proj_bias = True"),
    "nomic-bert, scaled": ("nomic", {"rotary_scaling_factor": 2}, "rotary_scaling_factor = 2"),
    "nomic-bert, pre-norm": ("nomic", {"prenorm": True}, "prenorm = True"),
    "nomic-bert of gelu": ("nomic", {"activation_function": "gelu"}, "'gelu'"),
    "nomic-bert with a new key": ("nomic", {"alibi": 8}, 'ignore_config=\\("alibi",\\)'),
    "nomic-bert of others": ("nomic", {"auto_map": {"AutoModel": "a/b--c.D"}}, "a/b--c.D"),
    "ModernBERT with biases": ("modernbert", {"mlp_bias": True}, "mlp_bias = True"),
    "ModernBERT with shifts": ("modernbert", {"norm_bias": True}, "norm_bias = True"),
    "ModernBERT of other layers": (
        "modernbert",
        {"layer_types": ["full_attention"] * 4},
        "layer_types",
    ),
    "ModernBERT, scaled": (
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1.0}}},
        "rope_parameters",
    ),
    "an unknown type": ("mpnet", {"model_type": "deberta-v2"}, "model_type = 'deberta-v2'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_config_that_says_another_model_is_refused(case, tmp_path):
    name, keys, sentence = REFUSED[case]
    with pytest.raises(CheckpointError, match=sentence) as error:
        Encoder.from_pretrained(changed(tmp_path, name, **keys))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "key"),
    [(XLMR, "pad_token_id"), ("nomic", "rotary_emb_base"), (T5, "d_model"), ("distilbert", "dim")],
)
def test_a_key_that_the_numbers_hang_on_must_be_there(name, key, tmp_path):
    with pytest.raises(CheckpointError, match=key):
        Encoder.from_pretrained(changed(tmp_path, name, drop=(key,)))


def test_an_mpnet_needs_no_padding_id(tmp_path):
    folder = changed(tmp_path, "mpnet", drop=("pad_token_id",))
    ids = texts("mpnet")[0][0]
    expected = Encoder.from_pretrained(GOLDEN / "mpnet")(ids)
    np.testing.assert_array_equal(Encoder.from_pretrained(folder)(ids), expected)


def renamed(old, new):
    """The tensors with a part of their names replaced."""
    return lambda held: {name.replace(old, new): tensor for name, tensor in held.items()}


def other(name, change):
    """The tensors, one of them changed."""
    return lambda held: held | {name: change(held[name])}


def without(*parts):
    """The tensors without those whose names hold one of the parts."""
    return lambda held: {
        name: tensor for name, tensor in held.items() if not any(part in name for part in parts)
    }


TENSORS = {
    "two embeddings": (T5, other("shared.weight", lambda x: x + 1), "one weight in this model"),
    "no encoder": (T5, renamed("encoder.", "decoder."), "num_layers = 2, but"),
    "no bias of positions": (T5, without("relative"), "relative_attention_bias"),
    "the prefix of a BERT": (XLMR, renamed("roberta.", "bert."), "'bert.' is not understood"),
    "a norm that layer 0 has not": (
        "modernbert",
        lambda held: held | {"layers.0.attn_norm.weight": np.ones(40, np.float32)},
        "layers.0.attn_norm.weight",
    ),
    "one half of a gate": ("nomic", without("fc12"), "fc12"),
    "queries alone": (
        "nomic",
        other("encoder.layers.0.attn.Wqkv.weight", lambda x: x[:40]),
        "implies \\(120, 40\\)",
    ),
    "token types": (
        "distilbert",
        lambda held: held | {"embeddings.token_type_embeddings.weight": np.ones((2, 36), "f4")},
        "token_type_embeddings",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_of_another_model_are_refused(case, tmp_path):
    name, tensors, sentence = TENSORS[case]
    with pytest.raises(CheckpointError, match=sentence) as error:
        Encoder.from_pretrained(changed(tmp_path, name, tensors=tensors))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kept", ["shared.weight", "encoder.embed_tokens.weight"])
def test_one_name_of_the_embeddings_is_enough(kept, tmp_path):
    names = {"shared.weight", "encoder.embed_tokens.weight"} - {kept}
    folder = changed(tmp_path, T5, tensors=without(*names))
    ids = texts(T5)[0][0]
    expected = Encoder.from_pretrained(GOLDEN / T5)(ids)
    np.testing.assert_array_equal(Encoder.from_pretrained(folder)(ids), expected)


def test_a_text_longer_than_the_table_is_refused():
    model = Encoder.from_pretrained(GOLDEN / XLMR)  # 50 rows, of which 2 are no positions
    assert model(np.full((1, 48), 5)).shape == (1, 48, 36)
    with pytest.raises(InputError, match="learned positions for 48"):
        model(np.full((1, 49), 5))


def test_a_model_without_token_types_takes_zeros_alone():
    model = Encoder.from_pretrained(GOLDEN / "distilbert")
    ids = np.full((1, 3), 5)
    np.testing.assert_array_equal(model(ids, token_type_ids=np.zeros_like(ids)), model(ids))
    with pytest.raises(InputError, match="token_type_ids holds 1"):
        model(ids, token_type_ids=np.ones_like(ids))


SIZES = {"vocab_size": 31, "hidden_size": 15, "num_layers": 2, "intermediate_size": 13}


def test_configs_say_what_is_wrong():
    with pytest.raises(ConfigError, match="position is 'learned'"):
        T5Config(**SIZES, num_heads=3, head_width=4, position="learned")
    with pytest.raises(ConfigError, match="heads of an odd width"):
        ModernBertConfig(**SIZES, num_heads=3)
    with pytest.raises(ConfigError, match="padding_id is -1"):
        RobertaConfig(**SIZES, num_heads=3, padding_id=-1)
    with pytest.raises(ConfigError, match="bucket"):
        Encoder(MpnetConfig(**SIZES, num_heads=3, num_buckets=2), rngs=nnx.Rngs(0))
