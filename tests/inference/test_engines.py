"""Engines by name and as objects, and what is said where another library is missing."""

import importlib.metadata
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from jaxbert import CrossEncoder, Embedder, MultiVectorEncoder, cli
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import EngineError, InputError, InputTypeError, MissingPackageError
from jaxbert.inference import forward
from jaxbert.inference.batches import Padded, narrow
from jaxbert.inference.engines import JaxEngine, chosen_engine
from jaxbert.inference.graph_programs import arguments, own_index
from jaxbert.inference.packing import Packing
from jaxbert.text.tokenizer import Tokenizer
from tests.models import encoder, word_tokenizer, write_folder

TEXTS = ["a b c", "", "q " * 40, "d e f"]


class Slow(JaxEngine):
    """An engine of a user's own: JAX under another name, which counts what it is asked for."""

    name = "slow"

    def __init__(self):
        self.asked = []

    def planner(self, encoder):
        self.asked.append("planner")
        return super().planner(encoder)

    def identity(self):
        return {"mine": 3}


def embedder(**more):
    return Embedder(
        encoder("bert-gelu"), Tokenizer(word_tokenizer(), "right"), Stack(max_length=17), **more
    )


def test_an_object_with_the_interface_is_an_engine():
    slow = Slow()
    ours = embedder(engine=slow)
    assert ours.encode(TEXTS).tobytes() == embedder().encode(TEXTS).tobytes()
    assert (slow.asked, ours.engine.kind) == (["planner"], slow)
    again = pickle.loads(pickle.dumps(ours))
    assert isinstance(again.engine.kind, Slow)
    assert again.encode(TEXTS).tobytes() == ours.encode(TEXTS).tobytes()


@pytest.mark.parametrize("engine", ["onnx", "", "JAX"])
def test_an_unknown_name(engine, tmp_path):
    with pytest.raises(InputError, match="it must be one of: jax, openvino"):
        chosen_engine(engine)
    for kind in (Embedder, CrossEncoder, MultiVectorEncoder):
        with pytest.raises(InputError, match=r"engine is .*; it must be one of"):
            kind.from_pretrained(tmp_path / "nothing", engine=engine)  # before the folder is read


@pytest.mark.parametrize("engine", [None, 3, object(), JaxEngine, len, np.zeros(3)])
def test_what_is_no_engine(engine):
    with pytest.raises(InputTypeError, match=r"pass a name \(jax, openvino\), or an object"):
        embedder(engine=engine)


@pytest.mark.parametrize("package", ["openvino", "onnx"])
def test_a_missing_package_is_named_with_its_extra(package, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    if package == "onnx":
        monkeypatch.setattr("jaxbert.inference.openvino.openvino", lambda: None)
    wanted = rf'{package} is not installed; .*pip install "jaxbert\[openvino\]"'
    for kind in (Embedder, CrossEncoder, MultiVectorEncoder):
        with pytest.raises(MissingPackageError, match=wanted) as caught:
            kind.from_pretrained(tmp_path / "nothing", engine="openvino")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    command = ["similarity", "a", "b", "--model", str(tmp_path), "--engine", "openvino"]
    assert cli.main(command) == 1
    assert "is not installed" in capsys.readouterr().err


def test_info_says_what_is_installed(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "model")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("jaxbert.verify.info.version", missing)
    assert cli.main(["info", str(folder)]) == 0
    assert "jax (openvino is not installed: pip install" in capsys.readouterr().out


def test_a_run_says_its_engine(tmp_path):
    folder, out = write_folder(tmp_path / "model"), tmp_path / "out.npy"
    (tmp_path / "in.txt").write_text("a b\n")
    given = [str(tmp_path / "in.txt"), "-o", str(out), "--model", str(folder), "--quiet"]
    assert cli.main(["embed", *given]) == 0
    assert json.loads((tmp_path / "out.npy.json").read_text())["engine"] == {"name": "jax"}


def test_naming_an_engine_imports_it_only_when_it_is_asked_for():
    code = """
import sys
import jaxbert.embedder, jaxbert.corpus.command, jaxbert.verify.report
print([name for name in ("openvino", "onnx", "jaxbert.inference.openvino") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the arrays of a graph, which need no package ------------------------------------------------


def test_one_text_in_a_row_has_one_row_of_the_mask():
    tokens = [np.arange(1, 4, dtype=np.int32), np.arange(1, 6, dtype=np.int32)]
    given = arguments(forward.vectors, Padded(np.arange(2), 3, 7).fill(tokens), 2)
    assert given["queries"].tolist() == [[1]] * 3
    assert given["token_index"].tolist() == [
        [0, 1, 2, -1, -1, -1, -1],
        [7, 8, 9, 10, 11, -1, -1],
        [-1] * 7,
    ]
    assert given["types"].shape == (1, 1)
    assert given["skipped"].tolist() == [2, 2, 2]


def test_texts_that_share_a_row_read_their_own_segment():
    packing = Packing(longest=5, length=11, texts=3)
    tokens = [np.arange(1, 4, dtype=np.int32), np.arange(1, 5, dtype=np.int32)]
    batch = packing.batch([[0, 1]], 2).fill(tokens)
    given = arguments(forward.token_states, batch)
    assert given["queries"].tolist() == given["keys"].tolist() == batch.segments.tolist()
    assert given["token_index"].shape == (6, 4)  # the longest has 4 tokens, and there is room for 5
    assert narrow(np.full((3, 5), -1)).shape == (3, 1)
    assert (own_index(np.zeros((2, 3), np.int32)) == -1).all()


def test_tokens_that_none_attends_to_are_in_a_segment_below_zero():
    tokens = [np.array([[5, 6, 4], [0, 0, 1]], np.int32)]
    given = arguments(forward.expanded_vectors, Padded(np.arange(1), 2, 4).fill(tokens))
    assert given["keys"].tolist() == [[1, 1, -1, 0], [0, 0, 0, 0]]
    assert given["queries"].tolist() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert given["types"].shape == (1, 1)


def test_pickles_of_errors_keep_their_sentence():
    assert str(pickle.loads(pickle.dumps(EngineError("a b; do c")))) == "a b; do c"
