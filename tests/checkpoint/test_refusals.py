"""Folders that must not load: each is refused by a sentence that names what is wrong."""

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert.checkpoint.tensors import open_folder, read_tensors
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError, InputError
from tests.models import CONFIGS, FOLDERS, encoder, published, raw_config, sharded, write_folder

pytestmark = pytest.mark.filterwarnings("ignore::jaxbert.checkpoint.tensors.UnverifiedModelWarning")

# --- tensors -------------------------------------------------------------------------


def change(edit):
    """A refusal case that edits the tensors of a folder."""

    def apply(folder):
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors")

    return apply


def replace(name, value):
    return change(lambda tensors: tensors.update({name: value}))


QUERY = "encoder.layer.1.attention.self.query.weight"
TENSORS = {
    "missing": (
        change(lambda t: t.pop(QUERY)),
        "lacks encoder.layer.1.attention.self.query.weight",
    ),
    "left over": (replace("encoder.layer.2.x", np.ones(3, np.float32)), r"the layers 0, 1, 2"),
    "misshapen": (replace(QUERY, np.ones((15, 14), np.float32)), r"shape \(15, 14\).*\(15, 15\)"),
    "transposed": (
        replace("encoder.layer.0.intermediate.dense.weight", np.ones((15, 13), np.float32)),
        r"shape \(15, 13\).*implies \(13, 15\)",
    ),
    "NaN": (replace(QUERY, np.full((15, 15), np.nan, np.float32)), "query.weight holds NaN"),
    "infinity": (
        replace(QUERY, np.full((15, 15), np.inf, np.float16)),
        "query.weight holds NaN or",
    ),
    "a flipped exponent": (
        replace(QUERY, np.full((15, 15), -1.24e38, np.float32)),
        "holds 1.2e.38, which is no weight",
    ),
    "float64": (replace(QUERY, np.ones((15, 15))), "stored as F64"),
    "integers": (replace(QUERY, np.ones((15, 15), np.int8)), "stored as I8"),
    "no words": (
        change(lambda t: t.pop("embeddings.word_embeddings.weight")),
        "no embeddings.word_embeddings.weight",
    ),
    "two models": (
        replace("bert.embeddings.word_embeddings.weight", np.ones((31, 15), np.float32)),
        "more than one",
    ),
    "two spellings": (replace("embeddings.LayerNorm.gamma", np.ones(15, np.float32)), "spellings"),
    "positions that do not count": (
        replace("embeddings.position_ids", np.arange(19)[None] + 2),
        "does not count from 0",
    ),
    "strange prefix": (
        change(lambda t: [t.update({f"x.{name}": t.pop(name)}) for name in list(t)]),
        "prefix 'x.'",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_refuses_tensors(case, tmp_path):
    apply, sentence = TENSORS[case]
    folder = write_folder(tmp_path)
    apply(folder)
    with pytest.raises(CheckpointError, match=sentence):
        Encoder.from_pretrained(folder)


def test_every_single_tensor_is_needed(tmp_path):
    folder = write_folder(tmp_path, "qk-post-norm")
    whole = load_file(folder / "model.safetensors")
    for name in whole:
        save_file({k: v for k, v in whole.items() if k != name}, folder / "model.safetensors")
        with pytest.raises(CheckpointError):
            Encoder.from_pretrained(folder)


# --- files ---------------------------------------------------------------------------


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def flip(place):
    def apply(folder):
        file = folder / "model.safetensors"
        data = bytearray(file.read_bytes())
        data[place] ^= 0x10
        file.write_bytes(bytes(data))

    return apply


def only_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lost_shard(folder):
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def index_outside(folder):
    sharded(folder)
    index = {"weight_map": {"x": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def wrong_checksum(folder):
    (folder / "blobs").mkdir()
    blob = folder / "blobs" / ("0" * 64)
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)


FILES = {
    "truncated": (truncate, "model.safetensors is damaged"),
    "header length flipped": (flip(1), "model.safetensors is damaged"),
    "header flipped": (flip(12), "no embeddings.word_embeddings|not understood|damaged|lacks"),
    "empty file": (lambda f: (f / "model.safetensors").write_bytes(b""), "is damaged"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
    "only a pickle": (only_pickle, "a pickle, which is never opened"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "cannot be read as JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
    "a shard is lost": (lost_shard, "model-00002-of-00002.safetensors, which is not there"),
    "index leads outside": (index_outside, "which is not there"),
    "checksum of the cache": (wrong_checksum, "does not have the checksum"),
}


@pytest.mark.parametrize("case", FILES)
def test_refuses_files(case, tmp_path):
    apply, sentence = FILES[case]
    folder = write_folder(tmp_path)
    apply(folder)
    with pytest.raises(CheckpointError, match=sentence):
        Encoder.from_pretrained(folder)


def test_a_right_checksum_is_accepted(tmp_path):
    from jaxbert.checkpoint.sums import sha256

    folder = write_folder(tmp_path)
    blob = folder / sha256(folder / "model.safetensors")
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    Encoder.from_pretrained(folder)


# --- config.json ---------------------------------------------------------------------

C = "configuration_bert.JinaBertConfig"
KEYS = {
    "roberta": ({"model_type": "roberta"}, "pad_token_id = None; positions of a RoBERTa"),
    "electra": ({"model_type": "electra"}, "model_type = 'electra'; implemented are bert, "),
    "umt5": ({"model_type": "umt5"}, "relative bias of its own in every layer"),
    "longt5": ({"model_type": "longt5"}, r"model_type = 'longt5' \(its attention is local\)"),
    "t5gemma": ({"model_type": "t5gemma"}, "those of Gemma"),
    "xlm-roberta": ({"model_type": "xlm-roberta"}, "pad_token_id = None; positions of a RoBERTa"),
    "decoder": ({"is_decoder": True}, "is_decoder"),
    "cross attention": ({"add_cross_attention": True}, "add_cross_attention"),
    "pruned": ({"pruned_heads": {"0": [1]}}, "pruned_heads"),
    "alibi_scaling": ({"alibi_scaling": 2}, "alibi_scaling"),
    "relative_key": ({"position_embedding_type": "relative_key"}, "'relative_key'"),
    "activation": ({"hidden_act": "mish"}, "hidden_act = 'mish'"),
    "another sigmoid": ({"hidden_act": "quick_gelu"}, "hidden_act = 'quick_gelu'"),
    "a clipped gelu": ({"hidden_act": "gelu_10"}, "hidden_act = 'gelu_10'"),
    "feed-forward": ({"feed_forward_type": "swiglu"}, "feed_forward_type = 'swiglu'"),
    "pooler": ({"emb_pooler": "cls"}, "emb_pooler"),
    "architecture": ({"architectures": ["RobertaModel"]}, "architecture 'RobertaModel'"),
    "unknown key of remote code": (
        {"rotary_dim": 64, "architectures": ["JinaBertModel"]},
        r'rotary_dim = 64.*ignore_config=\("rotary_dim",\)',
    ),
    "quantised": ({"quantization_config": {"bits": 4}}, "quantization_config = {'bits': 4}"),
    "one layer is another": ({"per_layer_config": {"0": {}}}, "per_layer_config"),
    "other weights": ({"transformers_weights": "x.safetensors"}, "transformers_weights"),
    "a huge eps": ({"layer_norm_eps": 10**400}, "layer_norm_eps = 1000.*, which is too large"),
    "a huge range": ({"initializer_range": 10**400}, "initializer_range = 1000"),
    "eps is no number": ({"layer_norm_eps": math.nan}, "layer_norm_eps = nan"),
    "width of 64 bits": ({"hidden_size": 2**63}, "hidden_size is 9223372036854775808"),
    "types": ({"type_vocab_size": 2**30}, r"token_type_embeddings.weight has shape \(2, 15\)"),
    "positions": ({"max_position_embeddings": 18}, r"shape \(19, 15\), but .* \(18, 15\)"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000"),
    "act is a list": ({"hidden_act": ["gelu"]}, r"hidden_act = \['gelu'\]"),
    "act is null": ({"hidden_act": None}, "hidden_act = None"),
    "position is null": ({"position_embedding_type": None}, "position_embedding_type = None"),
    "position is a list": ({"position_embedding_type": ["alibi"]}, "position_embedding_type"),
    "architectures is a text": ({"architectures": "BertModel"}, "architectures = 'BertModel'"),
    "eps is null": ({"layer_norm_eps": None}, "layer_norm_eps = None"),
    "range is a text": ({"initializer_range": "x"}, "initializer_range = 'x'"),
    "vocabulary is a text": ({"vocab_size": "abc"}, "vocab_size is 'abc'"),
    "auto_map is a text": ({"auto_map": "x"}, "auto_map = 'x'"),
    "half of the code is known": (
        {"auto_map": {"AutoConfig": f"x/y--{C}", "AutoModel": "x/y--m.WeirdModel"}},
        r"not understood \(x/y--m.WeirdModel\)",
    ),
    "a name like a known one": (
        {"auto_map": {"AutoModel": "x/jina-bert-implementation-tanh--m.TanhModel"}},
        "not understood",
    ),
    "unknown code": ({"auto_map": {"AutoModel": "x/y--z.NomicModel"}}, "auto_map"),
    "heads": ({"num_attention_heads": 4}, "4 heads"),
    "no vocabulary": ({"vocab_size": None}, "vocab_size"),
    "layers": (
        {"num_hidden_layers": 3},
        "num_hidden_layers = 3, but the weights have",
    ),
    "fewer layers": ({"num_hidden_layers": 1}, "num_hidden_layers = 1, but"),
    "width": ({"intermediate_size": 14}, "shape"),
}


@pytest.mark.parametrize("case", KEYS)
def test_refuses_a_config(case, tmp_path):
    edit, sentence = KEYS[case]
    folder = write_folder(tmp_path, config=raw_config(CONFIGS["bert-gelu"]) | edit)
    with pytest.raises(CheckpointError, match=sentence):
        Encoder.from_pretrained(folder)


def test_keys_of_remote_code_may_be_passed_over_by_name(tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"]) | {
        "rotary_dim": 64,
        "auto_map": {"AutoModel": "x/y--z.NomicModel"},
    }
    folder = write_folder(tmp_path, config=raw)
    Encoder.from_pretrained(folder, ignore_config=("rotary_dim", "auto_map"))
    with pytest.raises(CheckpointError, match="auto_map"):
        Encoder.from_pretrained(folder, ignore_config=("rotary_dim",))


def test_unknown_keys_that_say_no_are_fine(tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"]) | {"use_rotary": False, "window": None}
    Encoder.from_pretrained(write_folder(tmp_path, config=raw))


def test_a_config_without_model_type_is_read_from_its_tensors(tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"])
    del raw["model_type"]
    Encoder.from_pretrained(write_folder(tmp_path, config=raw))


CODE = "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"
MIXED = {
    "BERT tensors under a jina config": ("bert-gelu", "jinabert-geglu", {}, "different models"),
    "jina tensors under a BERT config": ("jinabert-geglu", "bert-gelu", {}, "different models"),
    "original under geglu": ("jinabert-original", "jinabert-geglu", {}, "different models"),
    "alibi tensors under absolute": ("jinabert-original", "bert-gelu", {}, "position_embeddings"),
    "learned tensors under alibi": ("bert-gelu", "jinabert-original", {}, "position_embeddings"),
    "the code of another variant": (
        "qk-post-norm",
        "qk-post-norm",
        {"auto_map": {"AutoModel": CODE}},
        "names the code of jinabert, but",
    ),
}


@pytest.mark.parametrize("case", MIXED)
def test_refuses_config_and_tensors_of_different_models(case, tmp_path):
    tensors, config, edit, sentence = MIXED[case]
    raw = raw_config(CONFIGS[config]) | edit
    folder = write_folder(tmp_path, tensors=published(encoder(tensors)), config=raw)
    with pytest.raises(CheckpointError, match=sentence):
        Encoder.from_pretrained(folder)


def test_a_jina_folder_is_known_by_its_tensors_whatever_it_calls_itself(tmp_path):
    for name, family in [
        ("jinabert-geglu", "jinabert"),
        ("qk-norm", "jinabert-qk-norm"),
        ("qk-post-norm", "jinabert-qk-post-norm"),
        ("bert-gelu", "bert"),
    ]:
        folder = write_folder(tmp_path / name, name)
        assert open_folder(folder).family == family


PUBLISHED = sorted((FOLDERS[0].parent / "configs").glob("*.config.json"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.name)
def test_the_configs_of_published_models_are_understood(file):
    from jaxbert.checkpoint.config_json import config_and_family

    raw = json.loads(file.read_text())
    marker = {
        "base-code": ["encoder.layer.0.mlp.up_gated_layer.weight"],
        "base-es": [
            "encoder.layer.0.mlp.gated_layers.weight",
            "encoder.layer.0.attention.self.layer_norm_q.weight",
        ],
        "jina": ["encoder.layer.0.mlp.gated_layers.weight"],
    }
    names = next((marker[key] for key in marker if key in file.name), [])
    config, family = config_and_family(raw, names, ())
    assert config.hidden_size == raw["hidden_size"]
    assert config.layer_norm_eps == 1e-12
    assert (config.position == "alibi") == ("jina" in file.name) == (family != "bert")


@pytest.mark.parametrize("dtype", ["float16", "int8", "bool", "float8_e4m3fn", "abc"])
def test_refuses_dtypes_that_were_never_measured(dtype, tmp_path):
    with pytest.raises(InputError, match=f"dtype is {dtype}"):
        Encoder.from_pretrained(write_folder(tmp_path), dtype=dtype)


def test_the_weights_of_the_package_are_compared_with_their_checksum(minilm, tmp_path, monkeypatch):
    from jaxbert.checkpoint import hub, sums

    assert {sums.sha256(minilm / name): name for name in hub.PACKAGE_SUMS} == {
        known: name for name, known in hub.PACKAGE_SUMS.items()
    }
    copy = tmp_path / "model"
    shutil.copytree(minilm, copy)
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[50_000_000] ^= 1  # the last bit of one weight
    (copy / "model.safetensors").write_bytes(bytes(data))
    read_tensors(open_folder(copy))  # nothing is known about a folder of one's own
    monkeypatch.setattr(hub, "installed_package", lambda: copy)
    with pytest.raises(CheckpointError, match="checksum"):
        read_tensors(open_folder(copy))
