"""Folders whose files are something else, damaged, lost, or of another kind of model."""

import hashlib
import json
import os
import socket

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert.checkpoint import sums
from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.kinds import NotAnEmbedderWarning
from jaxbert.checkpoint.tensors import open_folder
from jaxbert.checkpoint.zeros import check_zeros
from jaxbert.embedder import Embedder
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError
from jaxbert.verify.info import describe
from jaxbert.verify.opened import load_model
from tests.models import CONFIGS, arrays, encoder, published, raw_config, write_folder

OLD = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{OLD}Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{OLD}Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{OLD}Normalize"},
]
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n".format("0" * 64)
FILES = (
    "modules.json config.json 1_Pooling/config.json 2_Normalize/config.json tokenizer.json "
    "tokenizer_config.json sentence_bert_config.json config_sentence_transformers.json "
    "model.safetensors"
).split()


def whole(folder, **files):
    """A folder with every file that sentence-transformers writes."""
    return write_folder(
        folder,
        modules=MODULES,
        sentence_bert_config={"max_seq_length": 17},
        config_sentence_transformers={"prompts": {}},
        tokenizer_config={"tokenizer_class": "PreTrainedTokenizerFast"},
        **{"1_Pooling__config": {"pooling_mode": "cls"}, "2_Normalize__config": {}},
        **files,
    )


# --- what is no file -----------------------------------------------------------------


def listen(file):
    """A socket, whose name must be short."""
    here = os.getcwd()
    os.chdir(file.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(file.name)
    finally:
        os.chdir(here)


STRANGE = {
    "a dangling link": (lambda file: file.symlink_to("nowhere"), "leads nowhere"),
    "a loop of links": (lambda file: file.symlink_to(file.name), "cannot be read"),
    "a folder": (lambda file: file.mkdir(), "is a folder where a file is expected"),
    "a pipe": (os.mkfifo, "is a pipe"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "is a device"),
    "a socket": (listen, "is a socket"),
    "a pointer of Git LFS": (lambda file: file.write_text(LFS), "Git LFS pointer.*git lfs pull"),
    "a pointer of git-annex": (
        lambda file: file.write_text("/annex/objects/SHA256E-s5--0\n"),
        "git annex get",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_is_no_file_is_refused_and_never_opened(name, kind, tmp_path):
    folder = whole(tmp_path)
    (folder / name).unlink()
    make, sentence = STRANGE[kind]
    make(folder / name)
    with pytest.raises(CheckpointError, match=sentence):
        Embedder.from_pretrained(folder)


def test_a_module_folder_that_is_none(tmp_path):
    folder = whole(tmp_path)
    (folder / "2_Normalize" / "config.json").unlink()
    (folder / "2_Normalize").rmdir()
    Embedder.from_pretrained(folder)  # it may be absent
    (folder / "2_Normalize").symlink_to("nowhere")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Embedder.from_pretrained(folder)
    (folder / "2_Normalize").unlink()
    (folder / "2_Normalize").touch()
    with pytest.raises(CheckpointError, match="'2_Normalize', which is no folder"):
        Embedder.from_pretrained(folder)


def test_a_module_folder_may_be_a_link(tmp_path):
    folder = whole(tmp_path / "model")
    (folder / "1_Pooling").rename(tmp_path / "store")
    (folder / "1_Pooling").symlink_to(tmp_path / "store")
    assert Embedder.from_pretrained(folder).stack.pooling.modes == ("cls",)


PATHS = ["../model/1_Pooling", "a/../1_Pooling", "/tmp", "..\\x", "C:\\x"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_a_module_is_judged_as_it_is_written(path, tmp_path):
    folder = whole(tmp_path / "model")
    listed = [MODULES[0], MODULES[1] | {"path": path}]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match="points outside the folder"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 5000])
def test_a_path_that_no_system_has(path, tmp_path):
    folder = whole(tmp_path)
    (folder / "modules.json").write_text(json.dumps([MODULES[0], MODULES[1] | {"path": path}]))
    with pytest.raises(CheckpointError, match="cannot be read"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize("name", ["1_Pooling", "2_Dense", "0_Transformer"])
def test_modules_without_modules_json_are_refused_but_for_the_encoder(name, tmp_path):
    folder = write_folder(tmp_path)
    Embedder.from_pretrained(folder)
    (folder / name).mkdir()
    with pytest.raises(CheckpointError, match=rf"has {name} but no modules\.json"):
        Embedder.from_pretrained(folder)
    Encoder.from_pretrained(folder)


def test_json_that_says_two_things_or_has_no_end(tmp_path):
    folder = whole(tmp_path)
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode": "cls", "pooling_mode": "mean"}')
    with pytest.raises(CheckpointError, match="has the key 'pooling_mode' twice"):
        Embedder.from_pretrained(folder)
    pooling.write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        Embedder.from_pretrained(folder)
    pooling.write_bytes(b'{"pooling_mode": "\xff"}')
    with pytest.raises(CheckpointError, match="is no UTF-8 text"):
        Embedder.from_pretrained(folder)
    with pooling.open("wb") as stream:
        stream.truncate(1 << 27)  # no room is taken, and none is to be
    with pytest.raises(CheckpointError, match="has more than 67,108,864 bytes"):
        Embedder.from_pretrained(folder)


# --- sums ----------------------------------------------------------------------------


def fetched(folder):
    """A folder with the SOURCE.json that convert/from_hub.py writes."""
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": sums.sha256(folder / name)}
        for name in FILES
    }
    source = {"repository": "a/b", "commit": "0" * 40, "files": files}
    (folder / sums.SOURCE).write_text(json.dumps(source))
    return folder


@pytest.mark.parametrize("name", FILES)
def test_files_of_a_fetched_folder_must_be_those_that_were_fetched(name, tmp_path):
    folder = fetched(whole(tmp_path))
    Embedder.from_pretrained(folder)
    data = (folder / name).read_bytes()
    if name.endswith(".safetensors"):
        data = data[:-1] + bytes([data[-1] ^ 1])  # still a number
    else:
        data += b" "  # still the same JSON
    (folder / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"checksum it was published with.*SOURCE\.json"):
        Embedder.from_pretrained(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"lacks '.*, which its SOURCE\.json lists"):
        Embedder.from_pretrained(folder)


def test_a_source_that_is_damaged_is_refused_and_one_of_others_is_not_ours(tmp_path):
    folder = fetched(whole(tmp_path))
    (folder / sums.SOURCE).write_text('{"where": "elsewhere"}')
    Embedder.from_pretrained(folder)
    for damaged in ("{", '{"repository": 1, "commit": 2, "files": 3}', "[]"):
        (folder / sums.SOURCE).write_text(damaged)
        with pytest.raises(CheckpointError, match="does not list the files that were fetched"):
            Embedder.from_pretrained(folder)


@pytest.mark.parametrize("kind", ["git", "sha1", "sha256"])
@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "model.safetensors"])
def test_blobs_of_the_cache_must_be_what_they_are_named_by(name, kind, tmp_path):
    folder = whole(tmp_path / "model")
    data = (folder / name).read_bytes()
    header = b"blob %d\0" % len(data) if kind == "git" else b""
    digest = hashlib.new("sha256" if kind == "sha256" else "sha1", header + data).hexdigest()
    (folder / name).rename(tmp_path / digest)
    (folder / name).symlink_to(tmp_path / digest)
    Embedder.from_pretrained(folder)
    (folder / name).unlink()
    (tmp_path / digest).rename(tmp_path / digest[::-1])
    (folder / name).symlink_to(tmp_path / digest[::-1])
    with pytest.raises(CheckpointError, match="does not have the checksum"):
        Embedder.from_pretrained(folder)


# --- zeros ---------------------------------------------------------------------------


DTYPES = ["float32", "float16", "bfloat16"]


def noise(*shape, dtype="float32"):
    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return (np.random.default_rng(0).normal(size=shape) + 3.0).astype(kind)


def hole(tensor, start, end):
    tensor.reshape(-1)[start:end] = 0
    return tensor


LOST = {
    "a row of a product": ("encoder.layer.0.output.dense.weight", (11, 13), 26, 39),
    "64 numbers of a wide product": ("x.intermediate.dense.weight", (11, 401), 7, 71),
    "a norm": ("embeddings.LayerNorm.weight", (13,), 0, 13),
    "an old norm": ("embeddings.LayerNorm.gamma", (401,), 100, 164),
    "a part of a bias": ("encoder.layer.0.output.dense.bias", (401,), 0, 128),
    "a row of a Dense": ("linear.weight", (7, 15), 15, 30),
    "parts of rows of a table": ("bert.embeddings.word_embeddings.weight", (31, 89), 100, 300),
    "the most of a table": ("embeddings.position_embeddings.weight", (11, 89), 0, 6 * 89),
    "128 rows of a table": ("embeddings.word_embeddings.weight", (997, 11), 110, 138 * 11),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LOST)
def test_zeros_that_no_training_leaves(case, dtype):
    name, shape, start, end = LOST[case]
    check_zeros(noise(*shape, dtype=dtype), name)
    with pytest.raises(CheckpointError, match=r"zeros in a row.*ignore_config=\(.zero_weights"):
        check_zeros(hole(noise(*shape, dtype=dtype), start, end), name)


LEFT = {
    "a bias that was never trained": ("encoder.layer.0.output.dense.bias", (401,), 0, 401),
    "a part of a key's bias": ("encoder.layer.0.attention.self.key.bias", (401,), 0, 200),
    "padding in a table": ("embeddings.word_embeddings.weight", (499, 89), 372 * 89, 499 * 89),
    "types that were never trained": ("embeddings.token_type_embeddings.weight", (2, 89), 0, 178),
    "a few zeros": ("encoder.layer.0.output.dense.weight", (89, 89), 200, 207),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LEFT)
def test_zeros_that_are_left(case, dtype):
    name, shape, start, end = LEFT[case]
    check_zeros(hole(noise(*shape, dtype=dtype), start, end), name)


def test_every_hole_of_a_page_in_a_wide_model_is_found():
    """4 KiB at any place of a table, a product, or a product behind a norm."""
    random = np.random.default_rng(0)
    for name, shape in (
        ("embeddings.word_embeddings.weight", (599, 401)),
        ("encoder.layer.0.attention.self.query.weight", (401, 401)),
    ):
        for start in random.integers(0, np.prod(shape) - 1024, 50):
            with pytest.raises(CheckpointError, match="zeros in a row"):
                check_zeros(hole(noise(*shape), start, start + 1024), name)


def test_a_pruned_model_may_have_zeros(tmp_path):
    tensors = published(encoder("bert-gelu"))
    tensors["encoder.layer.1.output.dense.weight"][3] = 0
    folder = write_folder(tmp_path, tensors=tensors)
    with pytest.raises(CheckpointError, match=r"1\.output\.dense\.weight holds 13 zeros"):
        Encoder.from_pretrained(folder)
    Encoder.from_pretrained(folder, ignore_config=("zero_weights",))


# --- dtypes of what is not computed --------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("BOOL", 8), ("F8_E4M3", 8), ("F8_E8M0", 8), ("F4", 4), ("BF16", 16), ("C64", 64)],
)
def test_positions_are_integers(dtype, bits, tmp_path):
    folder = write_folder(tmp_path)
    file = folder / "model.safetensors"
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8:end]), data[end:]
    size = 16 * bits // 8
    header["embeddings.position_ids"] = {
        "dtype": dtype,
        "shape": [1, 16],
        "data_offsets": [len(rest), len(rest) + size],
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + rest + bytes(size))
    with pytest.raises(CheckpointError, match=f"stored as {dtype}; positions are integers"):
        Encoder.from_pretrained(folder)


# --- kinds ---------------------------------------------------------------------------


def with_head(folder, tensors, **files):
    held = published(encoder("bert-gelu"))
    return write_folder(folder, tensors=held | tensors, **files)


@pytest.mark.parametrize("name", ["classifier.weight", "qa_outputs.weight", "score.weight"])
def test_a_classifier_is_no_embedder(name, tmp_path):
    for modules in ({}, {"modules": MODULES[:2], "1_Pooling__config": {}}):
        folder = with_head(tmp_path / str(len(modules)), {name: np.ones((1, 15), "f4")}, **modules)
        with pytest.raises(CheckpointError, match=rf"\(it has {name}.*, so Embedder does not"):
            Embedder.from_pretrained(folder)
        Encoder.from_pretrained(folder)


def test_the_class_of_a_classifier_is_enough(tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"]) | {"architectures": ["BertForSequenceClassification"]}
    with pytest.raises(
        CheckpointError,
        match=r"has the class BertForSequenceClassification.*open it with CrossEncoder",
    ):
        Embedder.from_pretrained(write_folder(tmp_path, config=raw))


def test_a_masked_language_model_warns_unless_it_was_made_to_embed(tmp_path):
    head = {"cls.predictions.bias": np.ones(31, "f4")}
    with pytest.warns(NotAnEmbedderWarning, match="was not trained to embed"):
        Embedder.from_pretrained(with_head(tmp_path / "a", head))
    modules = {"modules": MODULES[:2], "1_Pooling__config": {}}
    Embedder.from_pretrained(with_head(tmp_path / "b", head, **modules))


def test_warnings_are_of_the_line_that_asked_for_the_model(tmp_path):
    masked = with_head(tmp_path / "a", {"cls.predictions.bias": np.ones(31, "f4")})
    for folder in (masked, write_folder(tmp_path / "b", "qk-norm")):
        with pytest.warns(UserWarning, match="is ") as caught:
            Embedder.from_pretrained(folder)
        assert [one.filename for one in caught] == [__file__]


def test_a_folder_with_an_adapter_is_refused(tmp_path):
    folder = write_folder(tmp_path, adapter_config={"peft_type": "LORA"})
    with pytest.raises(CheckpointError, match="and an adapter"):
        Encoder.from_pretrained(folder)


# --- keys that nobody reads ----------------------------------------------------------

PLAIN = {
    "output_past": True,  # BAAI/bge-large-zh
    "uniem_embedding_strategy": "last_mean",  # moka-ai/m3e-small
    "_attn_implementation_autoset": True,
    "num_labels": 2,
    "language": "english",
    "transformers.js_config": {"dtype": "q8"},
    "cell": {},  # jina-embedding-t-en-v1, and the next three
    "emb_size": 312,
    "pre_trained": "",
    "structure": [],
}


def test_keys_that_transformers_passes_over_are_taken_and_named(tmp_path, caplog):
    folder = write_folder(tmp_path, config=raw_config(CONFIGS["bert-gelu"]) | PLAIN)
    with caplog.at_level("INFO", logger="jaxbert"):
        model = load_model(folder, revision=None, ignore_config=(), dtype="float32")
    assert "output_past = True" in describe(model)
    assert "emb_size = 312" in model.stored.not_used
    assert not any("structure" in key for key in model.stored.not_used)
    assert "uniem_embedding_strategy = 'last_mean'" in caplog.text


@pytest.mark.parametrize("edit", [{"emb_pooler": "mean"}, {"architectures": ["JinaBertModel"]}])
def test_remote_code_stays_strict(edit, tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"]) | edit
    open_folder(write_folder(tmp_path, config=raw | {"some_list": [], "text": "", "object": {}}))
    with pytest.raises(CheckpointError, match="emb_size = 312, which is not understood"):
        open_folder(write_folder(tmp_path, config=raw | {"emb_size": 312}))


@pytest.mark.parametrize("name", ["gelu_python", "gelu_python_tanh", "gelu_fast", "swish"])
def test_other_names_of_activations(name, tmp_path):
    same = {"gelu_python": "bert-gelu", "swish": "bert-silu"}.get(name, "bert-gelu-tanh")
    raw = raw_config(CONFIGS[same])
    folder = write_folder(tmp_path, same, config=raw | {"hidden_act": name})
    assert open_folder(folder).config.activation == CONFIGS[same].activation
    ids, mask, types = arrays(3)
    ours = np.asarray(Encoder.from_pretrained(folder)(ids, mask, types))
    np.testing.assert_array_equal(ours, np.asarray(encoder(same)(ids, mask, types)))


@pytest.mark.parametrize("key", ["word_embedding_dimension", "in_features"])
def test_a_folder_that_lost_its_sub_folders(key, tmp_path):
    with pytest.raises(CheckpointError, match=r"is that of a .* module, not of a model"):
        open_folder(write_folder(tmp_path, config={key: 15, "bias": True}))


def test_a_large_dense_weight_is_none(tmp_path):
    listed = [*MODULES[:2], MODULES[2] | {"path": "2_Dense", "type": f"{OLD}Dense"}]
    dense = {"in_features": 15, "out_features": 7, "bias": False}
    files = {"1_Pooling__config": {}, "2_Dense__config": dense}
    folder = write_folder(tmp_path, modules=listed, **files)
    file = folder / "2_Dense" / "model.safetensors"
    for number, sentence in ((3e37, "is no weight"), (np.inf, "NaN or infinity")):
        weight = noise(7, 15)
        weight[1, 2] = number
        save_file({"linear.weight": weight}, file)
        with pytest.raises(CheckpointError, match=sentence):
            Embedder.from_pretrained(folder)
    save_file({"linear.weight": hole(noise(7, 15), 30, 45)}, file)
    with pytest.raises(CheckpointError, match=r"linear\.weight holds 15 zeros"):
        Embedder.from_pretrained(folder)
    assert load_file(file)["linear.weight"].shape == (7, 15)
    assert is_there(file)


def test_a_list_of_sources_in_the_place_of_the_settings_is_refused(tmp_path):
    source = {"repository": "owner/model", "commit": "0" * 40, "files": {}}
    folder = write_folder(tmp_path, config_sentence_transformers=source)
    with pytest.raises(CheckpointError, match=r"holds what a SOURCE\.json of"):
        Embedder.from_pretrained(folder)
