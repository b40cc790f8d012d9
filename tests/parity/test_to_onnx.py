"""convert/to_onnx.py: the file in onnxruntime, as people deploy it, and every refusal."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra openvino is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra parity is not installed")

from safetensors.numpy import load_file

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.graphs import graph as graphs
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.opened import load_model
from tests.models import GOLDEN, encoder, scored, word_tokenizer, write_folder
from tests.parity import programs
from tests.tolerances import COMPANY, ENCODER, GOLDEN_ENCODER, MINILM, close, norms

pytestmark = pytest.mark.torch

SENTENCE = ("--output", "sentence_embedding")


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    return programs.program("to_onnx", monkeypatch)


def session(folder):
    """The file in onnxruntime."""
    file = str(folder / "onnx" / "model.onnx")
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def call(folder, ids, mask, types=None):
    """The one output, of NumPy integers."""
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    own = {name: np.zeros_like(ids) if x is None else x for name, x in given.items()}
    return session(folder).run(None, {name: x.astype(np.int64) for name, x in own.items()})[0]


def refused(program, capsys, *arguments):
    """What it says on stderr, with exit status 2 and nothing written."""
    assert program.main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.startswith("to_onnx.py: ")
    assert "Traceback" not in error
    assert not Path(arguments[1]).exists() or not (Path(arguments[1]) / "onnx").exists()
    return error


@pytest.mark.parametrize("name", ["bert-3heads", "jinabert-8heads-tokentypes"])
def test_states_agree_with_torch(program, tmp_path, name):
    folder = GOLDEN / name
    assert program.main([str(folder), str(tmp_path / "out")]) == 0
    golden = load_file(folder / "golden.safetensors")
    mask = golden["attention_mask"]
    found = call(tmp_path / "out", golden["input_ids"], mask, golden.get("token_type_ids"))
    last = max(int(key[7:]) for key in golden if key.startswith("hidden."))
    close(found[mask != 0], golden[f"hidden.{last}"][mask != 0], GOLDEN_ENCODER)


def test_the_file_says_what_it_takes(program, minilm, tmp_path):
    out = tmp_path / "out"
    assert program.main([str(minilm), str(out), *SENTENCE]) == 0
    model = onnx.load(out / "onnx" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 20)]
    own = session(out)
    assert [(one.name, one.shape, one.type) for one in own.get_inputs()] == [
        (name, ["batch", "sequence"], "tensor(int64)") for name in program.INPUTS
    ]
    (output,) = own.get_outputs()
    assert (output.name, output.shape) == ("sentence_embedding", ["batch", 384])
    about = json.loads((out / "onnx" / "jaxbert.json").read_text())
    assert about["opset"] == 20
    assert about["output"] == "sentence_embedding"
    kept = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert {"tokenizer.json", "config.json", "modules.json", "1_Pooling/config.json"} <= kept
    assert "model.safetensors" not in kept
    texts = ["What is Deep Learning?", "", "A bias is a function of positions. " * 9]
    embedder = Embedder.from_pretrained(minilm)
    tokens = embedder.tokenizer(texts)
    ids = np.zeros((3, max(map(len, tokens)) + 5), np.int64)
    mask = np.zeros_like(ids)
    for row, one in enumerate(tokens):
        ids[row, : len(one)], mask[row, : len(one)] = one, 1
    close(call(out, ids, mask), embedder.encode(texts), MINILM, norms)


def test_modules_behind_the_encoder_are_inside_and_their_files_beside(program, tmp_path):
    random = np.random.default_rng(3)
    dense = Dense(random.normal(size=(7, 45)).astype(np.float32), np.ones(7, np.float32), "Tanh")
    stack = Stack(Pooling(("cls", "max", "lasttoken")), (dense, Normalize()), 17)
    tokenizer = Tokenizer(word_tokenizer(), "right")
    embedder = Embedder(encoder("qk-post-norm"), tokenizer, stack)
    embedder.save_pretrained(tmp_path / "model")
    out = tmp_path / "out"
    assert program.main([str(tmp_path / "model"), str(out), *SENTENCE]) == 0
    ids = np.array([[2, 5, 6, 7, 3], [2, 8, 3, 0, 0]])
    close(call(out, ids, ids != 0), embedder.encode(["a b c", "d"]), COMPANY, norms)
    assert (out / "2_Dense" / "model.safetensors").is_file()


def test_any_number_but_zero_is_a_token_and_an_empty_row_is_finite(program, tmp_path):
    folder, out = write_folder(tmp_path / "model", "jinabert-geglu"), tmp_path / "out"
    assert program.main([str(folder), str(out)]) == 0
    ids, mask = np.array([[2, 5, 3, 7], [2, 4, 5, 3]]), np.array([[2, 9, -1, 0], [0, 0, 0, 0]])
    found = call(out, ids, mask)
    assert np.isfinite(found).all()
    expected = np.asarray(Encoder.from_pretrained(folder)(ids[:1], mask[:1] != 0))
    close(found[:1, :3], expected[:, :3], ENCODER)


def test_the_same_model_gives_the_same_bytes(program, tmp_path):
    folder = write_folder(tmp_path / "model")
    for name in "ab":
        assert program.main([str(folder), str(tmp_path / name)]) == 0
    first, second = (tmp_path / name / "onnx" / "model.onnx" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()


def test_a_file_that_differs_is_not_written(program, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("jaxbert.graphs.encoder.MASKED", np.array(-3.0, np.float32))
    assert program.main([str(GOLDEN / "bert-3heads"), str(tmp_path / "out")]) == 1
    assert "DIFFERS from the encoder" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_refusals(program, tmp_path, capsys, monkeypatch):
    out, folder = tmp_path / "out", write_folder(tmp_path / "model")
    error = refused(program, capsys, GOLDEN / "modernbert", out)
    assert "the encoder is a ModernBert" in error
    pairs = write_folder(tmp_path / "pairs", tensors=scored())
    assert "CrossEncoder" in refused(program, capsys, pairs, out, *SENTENCE)
    assert "not empty" in refused(program, capsys, folder, folder)
    assert "no such model" in refused(program, capsys, "no such model", out)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        assert "named int8 and parity" in refused(program, capsys, folder, out)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnx", None)
        assert 'pip install "jaxbert[openvino]"' in refused(program, capsys, folder, out)
    monkeypatch.setattr(graphs, "LARGEST", 1000)
    assert "an ONNX file holds less than 2" in refused(program, capsys, folder, out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model", "pairs"]


class Own:
    """A position scheme without a graph."""


def test_a_scheme_that_no_graph_has(program, tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "model")
    right = load_model(folder, revision=None, ignore_config=(), dtype="float32")
    right.encoder.position = Own()
    monkeypatch.setattr("jaxbert.verify.opened.load_model", lambda *_, **__: right)
    error = refused(program, capsys, folder, tmp_path / "out")
    assert "the position scheme is a Own" in error
