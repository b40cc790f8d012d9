"""The arguments of SentenceTransformer.encode beside ours, and our folders in its hands."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from sentence_transformers import SentenceTransformer, quantize_embeddings
from sentence_transformers.sentence_transformer.modules import Dense as TorchDense
from sentence_transformers.sentence_transformer.modules import Pooling as TorchPooling
from sentence_transformers.sentence_transformer.modules import Transformer

import jaxbert
from jaxbert import Embedder, Ranges
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.encoder import Encoder
from jaxbert.inference.quantise import DTYPES
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.text.tokenizer import Tokenizer
from tests.models import GOLDEN, T5_FOLDERS, encoder, word_tokenizer
from tests.parity.torch_models import SIZES, save_model
from tests.tolerances import FUNCTION, GOLDEN_ENCODER, MINILM, close

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "convert" / "to_huggingface.py"
WIDTH = SIZES["hidden_size"]
TEXTS = ["the cat", "", "a text of many words, and of pieces " * 3, "The CAT's", "é 語", "query"]
MANY = [f"{a} of the {b}" for a in "abcdefghijk" for b in "lmnopqrstuv"]
PROMPTS = {"query": "Query: ", "passage": "text: ", "other": "of "}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One folder in both libraries."""
    base = save_model(tmp_path_factory.mktemp("base"))
    torch.manual_seed(5)
    model = SentenceTransformer(
        modules=[Transformer(str(base)), TorchPooling(WIDTH), TorchDense(WIDTH, 17)],
        prompts=PROMPTS,
        default_prompt_name="other",
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(str(folder), create_model_card=False)
    return Embedder.from_pretrained(folder), model


def agree(ours, theirs, tolerance=GOLDEN_ENCODER):
    """The same numbers, shape and kind."""
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    close(ours, theirs, tolerance)


# --- encode ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["encode", "encode_query", "encode_document"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_name": "passage"},
        {"prompt": "a "},
        {"prompt": ""},
        {"normalize_embeddings": True},
        {"truncate_dim": 7},
        {"truncate_dim": 7, "normalize_embeddings": True},
        {"batch_size": 2, "show_progress_bar": False, "convert_to_numpy": True, "device": "cpu"},
    ],
    ids=str,
)
def test_arguments_mean_the_same(both, method, options):
    ours, theirs = (getattr(model, method)(TEXTS, **options) for model in both)
    agree(ours, theirs)


def test_positional_arguments_mean_the_same(both):
    given = (TEXTS, "query", None, 3, False, "sentence_embedding", "float32")
    agree(both[0].encode(*given), both[1].encode(*given))


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize(
    "options", [{}, {"truncate_dim": 9, "normalize_embeddings": True}], ids=str
)
def test_precisions(both, precision, options):
    ours, theirs = (model.encode(MANY, precision=precision, **options) for model in both)
    # Both round down: a value on the edge of a step, or beside zero, may fall to either side.
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    if precision == "float32":
        agree(ours, theirs)
    elif "binary" in precision:
        assert (ours != theirs).mean() < 1e-2
    else:
        off = np.abs(ours.astype(int) - theirs.astype(int))
        assert off.max() <= 1
        assert (off > 0).mean() < 1e-2


@pytest.mark.parametrize("precision", DTYPES)
def test_the_same_vectors_become_the_same_bytes(precision):
    random = np.random.default_rng(1)
    vectors = random.normal(size=(131, 13)).astype(np.float32)
    agree(
        jaxbert.quantize_embeddings(vectors, precision),
        quantize_embeddings(vectors, precision),
        0 if precision != "float32" else FUNCTION,
    )
    if "int8" in precision:
        ranges = np.stack([vectors.min(axis=0) / 2, vectors.max(axis=0) / 3])
        agree(
            jaxbert.quantize_embeddings(vectors[:3], precision, ranges),
            quantize_embeddings(vectors[:3], precision, ranges=ranges),
            0,
        )
        kept = Ranges.of(vectors)
        agree(
            jaxbert.quantize_embeddings(vectors[:3], precision, kept),
            quantize_embeddings(vectors[:3], precision, calibration_embeddings=vectors),
            0,
        )


def test_token_embeddings(both):
    ours, theirs = (model.encode(TEXTS, output_value="token_embeddings") for model in both)
    for a, b in zip(ours, theirs, strict=True):
        agree(a, b.numpy())
    ours, theirs = (model.encode(TEXTS[0], output_value="token_embeddings") for model in both)
    agree(ours, theirs.numpy())


def test_all_outputs(both):
    ours, theirs = (model.encode(TEXTS, output_value=None) for model in both)
    for a, b in zip(ours, theirs, strict=True):
        length = int(b["attention_mask"].sum())
        np.testing.assert_array_equal(a["input_ids"], b["input_ids"][:length])
        agree(a["token_embeddings"], b["token_embeddings"][:length].numpy())
        agree(a["sentence_embedding"], b["sentence_embedding"].numpy())
        assert a["attention_mask"].sum() == length


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities(both, name):
    ours, theirs = both
    a, b = ours.encode(TEXTS), ours.encode(MANY[: len(TEXTS)])
    before = theirs.similarity_fn_name
    ours.similarity_fn_name = theirs.similarity_fn_name = name
    agree(ours.similarity_pairwise(a, b), theirs.similarity_pairwise(a, b).numpy(), 10 * FUNCTION)
    agree(ours.similarity(a, b), theirs.similarity(a, b).numpy(), 10 * FUNCTION)
    ours.similarity_fn_name = theirs.similarity_fn_name = before


def test_attributes(both):
    ours, theirs = both
    for name in ("max_seq_length", "prompts", "default_prompt_name", "similarity_fn_name"):
        assert getattr(ours, name) == getattr(theirs, name) or name == "prompts"
    assert {k: v for k, v in ours.prompts.items() if v} == {
        k: v for k, v in theirs.prompts.items() if v
    }
    assert ours.get_embedding_dimension() == theirs.get_embedding_dimension() == 17


# --- our folders in their hands ------------------------------------------------------------------


def no_surprise(folder, pooler=False):
    """transformers finds every weight that it needs, and no other."""
    _, loaded = transformers.BertModel.from_pretrained(
        folder, add_pooling_layer=pooler, local_files_only=True, output_loading_info=True
    )
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    assert not loaded["mismatched_keys"]


@pytest.mark.parametrize("config", ["bert-gelu", "bert-gelu-tanh", "bert-relu", "bert-silu"])
def test_a_model_made_in_python_is_read_by_torch(tmp_path, config):
    weight = np.random.default_rng(2).normal(size=(9, 30)).astype(np.float32)
    own = Embedder(
        encoder(config),
        Tokenizer(word_tokenizer(), "right"),
        Stack(
            pooling=Pooling(("cls", "mean")),
            after=(Dense(weight, weight[:, 0], "GELU"), Normalize()),
            max_length=13,
            prompts={"query": "a b "},
            default_prompt_name="query",
            similarity="euclidean",
            truncate_dim=7,
        ),
    )
    own.save_pretrained(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    assert theirs.max_seq_length == 13
    texts = ["a b c", "x " * 30, "q, r"]
    agree(own.encode(texts), theirs.encode(texts))
    agree(
        own.similarity(*[own.encode(texts)] * 2), theirs.similarity(*[own.encode(texts)] * 2), 1e-4
    )
    no_surprise(tmp_path)


@pytest.mark.parametrize("modes", [("cls",), ("mean", "max"), ("max", "cls", "lasttoken")])
def test_pooling_that_we_write_is_pooling_that_they_read(tmp_path, modes):
    own = Embedder(
        encoder("bert-gelu"),
        Tokenizer(word_tokenizer(), "right"),
        Stack(Pooling(modes), max_length=11),
    )
    own.save_pretrained(tmp_path)
    theirs = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    agree(own.encode(["a b", "c d e f"]), theirs.encode(["a b", "c d e f"]))


def test_there_and_back_again(both, tmp_path):
    ours, theirs = both
    ours.save_pretrained(tmp_path)
    again = SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    np.testing.assert_array_equal(again.encode(TEXTS), theirs.encode(TEXTS))
    no_surprise(tmp_path, pooler=True)


# --- the program -------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("to_huggingface", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_real_model_goes_back(minilm, tmp_path):
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, PROGRAM, minilm, out],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same vectors on 6 texts" in done.stdout
    assert "sentence-transformers in torch: largest difference" in done.stdout
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (out, minilm))
    assert all(ours[name].tobytes() == tensor.tobytes() for name, tensor in theirs.items())
    theirs = SentenceTransformer(str(out), device="cpu", local_files_only=True)
    agree(Embedder.from_pretrained(minilm).encode(TEXTS), theirs.encode(TEXTS), MINILM)


def jina(tmp_path):
    """A JinaBERT folder with a tokenizer."""
    model = Encoder.from_pretrained(GOLDEN / "jinabert-3heads")
    tokenizer = Tokenizer(word_tokenizer(), "right")
    Embedder(model, tokenizer, Stack(max_length=23)).save_pretrained(tmp_path / "jina")
    return tmp_path / "jina"


def test_jinabert_has_the_keys_of_its_remote_code(program, tmp_path, capsys):
    assert program.main([str(jina(tmp_path)), str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "was not compared" in out
    raw = json.loads((tmp_path / "out" / "config.json").read_text())
    assert raw["auto_map"]["AutoModel"].endswith("--modeling_bert.JinaBertModel")
    assert raw["feed_forward_type"] == "geglu"
    assert raw["position_embedding_type"] == "alibi"
    assert raw["emb_pooler"] == "mean"


@pytest.mark.parametrize("name", T5_FOLDERS)
def test_a_family_that_transformers_reads_is_compared_with_it(program, tmp_path, capsys, name):
    assert program.main([str(GOLDEN / name), str(tmp_path / "out")]) == 0
    assert "sentence-transformers in torch: largest difference" in capsys.readouterr().out


def test_a_difference_is_said(program, tmp_path, capsys, monkeypatch):
    base = save_model(tmp_path / "base")
    right = program.torch_vectors
    monkeypatch.setattr(program, "torch_vectors", lambda folder: right(folder) + 1e-3)
    assert program.main([str(base), str(tmp_path / "out")]) == 1
    assert "DIFFER" in capsys.readouterr().out


def test_refusals_are_one_sentence(program, tmp_path, capsys):
    base = save_model(tmp_path / "base")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    for name, out, reason in (
        (base, tmp_path / "full", "is not empty"),
        (base, tmp_path / "full" / "mine", "is a file"),
        (tmp_path / "nothing", tmp_path / "out", "is not a folder"),
    ):
        assert program.main([str(name), str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("to_huggingface.py: ")
        assert reason in error
    assert (tmp_path / "full" / "mine").read_text() == "kept"
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.partial"))
