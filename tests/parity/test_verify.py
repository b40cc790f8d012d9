"""convert/verify.py: what it prints, and its exit status, in a process of its own and in ours."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("torch")
pytest.importorskip("transformers")

from jaxbert.verify.compare import TOLERANCE
from tests.models import FAMILY_FOLDERS, GOLDEN
from tests.parity.torch_models import bert, save_model

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "convert" / "verify.py"


def run(*arguments):
    """The program in a process of its own."""
    return subprocess.run(
        [sys.executable, PROGRAM, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_sentence(text):
    """One line, and no traceback."""
    assert "Traceback" not in text
    assert text.startswith("verify.py: ")
    assert text.count("\n") == 1


def rows(table):
    """The names of the layers in a printed table, each with its relative difference."""
    return dict(re.findall(r"^(embeddings|layer \d+) .* ([\d.e+-]+|nan)$", table, re.MULTILINE))


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    monkeypatch.syspath_prepend(PROGRAM.parent)
    spec = importlib.util.spec_from_file_location("convert_verify", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(tmp_path):
    """A folder with a small BERT and no tokenizer."""
    bert().save_pretrained(tmp_path)
    return tmp_path


def test_the_real_model_agrees(minilm):
    done = run(minilm)
    assert done.returncode == 0, done.stderr
    assert list(rows(done.stdout)) == ["embeddings", *(f"layer {i}" for i in range(1, 7))]
    assert "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" in done.stdout
    assert "smallest cosine 1.000000" in done.stdout
    assert "the float32 encoder agrees with torch in float32 on 6 texts" in done.stdout
    assert done.stderr == ""


def test_a_small_model_without_a_tokenizer_agrees(small):
    done = run(small)
    assert done.returncode == 0, done.stderr
    assert list(rows(done.stdout)) == ["embeddings", "layer 1", "layer 2"]
    assert "rows of random ids" in done.stdout


def test_jinabert_is_left_to_the_reference():
    done = run(GOLDEN / "jinabert-3heads")
    assert done.returncode == 2
    assert done.stdout == ""
    assert_one_sentence(done.stderr)
    assert "transformers has no code" in done.stderr
    assert "`jaxbert verify`" in done.stderr


@pytest.mark.parametrize("golden", FAMILY_FOLDERS, ids=lambda folder: folder.name)
def test_a_family_that_transformers_reads_is_compared_with_it(program, golden, capsys):
    if golden.name == "nomic":
        assert program.main([str(golden)]) == 2
        assert "transformers has no code" in capsys.readouterr().err
        return
    assert program.main([str(golden)]) == 0
    out = capsys.readouterr().out
    raw = json.loads((golden / "config.json").read_text())
    keys = ("num_layers", "num_hidden_layers", "n_layers")
    count = next(raw[key] for key in keys if key in raw)
    assert list(rows(out)) == ["embeddings", *(f"layer {i + 1}" for i in range(count))]
    assert "agrees with torch in float32" in out


def test_jinabert_with_a_plain_feed_forward_is_not_taken_for_bert(program, small, capsys):
    config = small / "config.json"
    changed = config.read_text().replace("{", '{"position_embedding_type": "alibi",', 1)
    config.write_text(changed)
    weights = load_file(small / "model.safetensors")
    del weights["embeddings.position_embeddings.weight"]
    save_file(weights, small / "model.safetensors")
    assert program.main([str(small)]) == 2
    assert_one_sentence(capsys.readouterr().err)


def test_a_tokenizer_gives_the_texts(program, tmp_path, capsys):
    save_model(tmp_path)
    assert program.main([str(tmp_path)]) == 0
    assert "on 6 texts" in capsys.readouterr().out


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_one_wrong_number_in_any_layer_is_found(program, small, capsys, monkeypatch, layer):
    right = program.torch_states

    def wrong(*arguments):
        states = [state.copy() for state in right(*arguments)]
        states[layer][0, 3, 5] += 1e-3
        return states

    monkeypatch.setattr(program, "torch_states", wrong)
    assert program.main([str(small)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out
    off = [name for name, relative in rows(out).items() if float(relative) > TOLERANCE["float32"]]
    assert off == [f"layer {layer}" if layer else "embeddings"]


def test_nan_is_a_difference(program, small, capsys, monkeypatch):
    right = program.torch_states
    nan = float("nan")
    monkeypatch.setattr(program, "torch_states", lambda *given: [nan * s for s in right(*given)])
    assert program.main([str(small)]) == 1
    assert set(rows(capsys.readouterr().out).values()) == {"nan"}


def test_bfloat16_weights_are_held_to_their_own_tolerance(program, small, capsys):
    assert program.main([str(small), "--dtype", "bfloat16"]) == 0
    relative = [float(value) for value in rows(capsys.readouterr().out).values()]
    assert TOLERANCE["float32"] < max(relative) < TOLERANCE["bfloat16"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), "damaged"),
    ],
)
def test_a_broken_folder_is_one_sentence(program, small, capsys, damage, reason):
    damage(small)
    assert program.main([str(small)]) == 2
    error = capsys.readouterr().err
    assert_one_sentence(error)
    assert reason in error


def test_weights_that_torch_does_not_find_are_not_compared(program, small, capsys):
    weights = load_file(small / "model.safetensors")
    prefixed = {f"_orig_mod.{name}": weight for name, weight in weights.items()}
    save_file(prefixed, small / "model.safetensors", metadata={"format": "pt"})
    assert program.main([str(small)]) == 2
    error = capsys.readouterr().err
    assert_one_sentence(error)
    assert "found no weights" in error


@pytest.mark.parametrize("wrong", [False, True])
def test_a_report_holds_what_was_printed_and_what_was_compared(
    program, small, capsys, monkeypatch, wrong
):
    right = program.torch_states
    if wrong:
        monkeypatch.setattr(program, "torch_states", lambda *given: [2 * s for s in right(*given)])
    report = small / "report.txt"
    assert program.main([str(small), "--report", str(report)]) == int(wrong)
    text = report.read_text()
    assert capsys.readouterr().out.strip() in text
    assert f"torch {program.version('torch')}" in text
    assert ("DIFFERS" in text) == wrong


def test_a_report_that_cannot_be_written(program, small, capsys):
    assert program.main([str(small), "--report", str(small / "no" / "report.txt")]) == 2
    assert_one_sentence(capsys.readouterr().err)


def test_a_name_that_is_nothing(program, capsys):
    assert program.main(["no folder of mine"]) == 2
    assert_one_sentence(capsys.readouterr().err)


def test_missing_torch_is_one_sentence(program, small, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert program.main([str(small)]) == 2
    error = capsys.readouterr().err
    assert_one_sentence(error)
    assert "parity" in error
