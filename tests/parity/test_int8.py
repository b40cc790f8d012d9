"""convert/to_onnx.py --int8: the file in both runtimes, what is printed of it, every refusal."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

for name in ("onnx", "onnxruntime", "openvino", "nncf"):  # the last two would tell a server of it
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (the extra int8)", allow_module_level=True)

import onnx
import onnxruntime
from safetensors.numpy import load_file

from jaxbert import Embedder
from jaxbert.inference.openvino import openvino
from jaxbert.train.evaluate import spearman
from tests.models import GOLDEN, write_folder
from tests.parity import programs
from tests.tolerances import INT8_FULL, INT8_WEIGHTS, close, norms, off

pytestmark = pytest.mark.torch

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "convert" / "to_onnx.py"
SENTENCE = ("--output", "sentence_embedding")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Texts for the tokenizer of tests/models.py, of 1 to 11 letters; then of words that it does not
# know, of which the texts are on which the program compares.
KNOWN = [" ".join(LETTERS[(5 * i + 3 * j) % 26] for j in range(1 + i % 11)) for i in range(40)]
TEXTS = [*KNOWN, *(" ".join(["word", "a"][: 1 + i % 2] * i) for i in range(1, 9))]
PAIRS = [(TEXTS[i], TEXTS[i + 7], i * 11 % 13 / 3) for i in range(23)]


@pytest.fixture
def program(monkeypatch):
    """The program as a module."""
    return programs.program("to_onnx", monkeypatch)


@pytest.fixture
def calibration(tmp_path):
    """A file of texts."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path):
    """A small JinaBERT with a tokenizer."""
    return write_folder(tmp_path / "model", "jinabert-geglu")


def runtimes(folder):
    """The folder's file in ONNX Runtime and in OpenVINO, as functions of named arrays."""
    file = str(folder / "onnx" / "model.onnx")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    compiled = openvino().Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def feeds(ids, mask, types):
        types = np.zeros_like(ids) if types is None else types
        own = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        names = [port.name for port in session.get_inputs()]
        return {name: own[name].astype(np.int64) for name in names}

    yield lambda ids, mask, types=None: session.run(None, feeds(ids, mask, types))[0]
    yield lambda ids, mask, types=None: compiled(feeds(ids, mask, types))[0]


COSINES = r"in (?:ONNX Runtime|OpenVINO): least ([-\d.]+), mean ([-\d.]+)"
SPEARMAN = r"(-?\d+\.\d{3})(?: \(([-+]\d+\.\d{3})\))?(?: in float32)?\n"


# --- the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["weights", "weights-symmetric"])
@pytest.mark.parametrize("name", ["bert-3heads", "jinabert-qk-post-norm"])
def test_weights_in_int8_have_the_states_of_torch_nearly(program, tmp_path, name, mode):
    out = tmp_path / "out"
    assert program.main([str(GOLDEN / name), str(out), "--int8", mode]) == 0
    golden = load_file(GOLDEN / name / "golden.safetensors")
    mask, last = golden["attention_mask"], max(int(k[7:]) for k in golden if k[:6] == "hidden")
    expected = golden[f"hidden.{last}"][mask != 0]
    for run in runtimes(out):
        found = run(golden["input_ids"], mask, golden.get("token_type_ids"))[mask != 0]
        close(found, expected, INT8_WEIGHTS, norms)
        assert off(found, expected, norms) > 1e-4, "nothing was rounded"
    tensors = onnx.load(out / "onnx" / "model.onnx").graph.initializer
    floats = [own for own in tensors if own.data_type == onnx.TensorProto.FLOAT]
    wide = [own.name for own in floats if len(own.dims) == 2 and min(own.dims) > 1]
    assert wide == [], "matrices are still floats"
    kinds = {own.data_type for own in tensors}
    kind = {"weights": onnx.TensorProto.UINT8, "weights-symmetric": onnx.TensorProto.INT8}[mode]
    assert kind in kinds


@pytest.mark.parametrize("name", ["bert-gelu", "qk-post-norm"])
def test_all_products_in_int8_have_the_vectors_of_the_embedder_nearly(
    program, calibration, tmp_path, name
):
    folder = write_folder(tmp_path / "model", name)
    out, more = tmp_path / "out", ("--int8", "full", "--calibration", str(calibration))
    assert program.main([str(folder), str(out), *SENTENCE, *more]) == 0
    model = onnx.load(out / "onnx" / "model.onnx")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 20)]
    embedder = Embedder.from_pretrained(folder)
    tokens = embedder.tokenizer(TEXTS)
    ids = np.zeros((len(TEXTS), max(map(len, tokens)) + 3), np.int64)
    mask = np.zeros_like(ids)
    for row, one in enumerate(tokens):
        ids[row, : len(one)], mask[row, : len(one)] = one, 1
    expected = embedder.encode(TEXTS)
    for run in runtimes(out):
        together = run(ids, mask)
        close(together, expected, INT8_FULL, norms)
        alone = np.concatenate(
            [
                run(own[None, : len(one)], here[None, : len(one)])
                for own, here, one in zip(ids, mask, tokens, strict=True)
            ]
        )
        close(alone, expected, INT8_FULL, norms)


def test_only_products_and_tables_are_in_int8(program, folder, calibration, tmp_path):
    """The mask of -1e30, softmax and norms stay floats."""
    out, more = tmp_path / "out", ("--int8", "full", "--calibration", str(calibration))
    assert program.main([str(folder), str(out), *more]) == 0
    graph = onnx.load(out / "onnx" / "model.onnx").graph
    of_int8 = {x for node in graph.node if node.op_type == "DequantizeLinear" for x in node.output}
    behind = {}  # by operator: which of its inputs come from int8, through shapes too
    for node in graph.node:
        inside = [x in of_int8 for x in node.input]
        if node.op_type in ("Reshape", "Transpose", "Split") and inside[0]:
            of_int8.update(node.output)
        elif any(inside):
            behind.setdefault(node.op_type, []).append(inside)
    assert set(behind) == {"MatMul", "Gather"}
    assert sum(all(own) for own in behind["MatMul"]) == 2 * 7, "projections, scores, up and down"


def test_the_same_texts_give_the_same_bytes_and_the_folder_says_which(
    program, folder, calibration, tmp_path
):
    for name in "ab":
        more = ("--int8", "full", "--calibration", str(calibration))
        assert program.main([str(folder), str(tmp_path / name), *more]) == 0
    first, second = (tmp_path / name / "onnx" / "model.onnx" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert str(tmp_path).encode() not in first.read_bytes()
    about = json.loads((tmp_path / "a" / "onnx" / "jaxbert.json").read_text())["int8"]
    sums = hashlib.sha256(calibration.read_bytes()).hexdigest()
    assert about.pop("nncf")[0] == "3"
    assert about == {"mode": "full", "calibration_texts": 48, "calibration_sha256": sums}
    assert (tmp_path / "a" / "tokenizer.json").is_file()


# --- what is printed -----------------------------------------------------------------------------


def test_the_cosines_that_are_printed_are_those_of_the_states(program, folder, tmp_path, capsys):
    from jaxbert.verify.opened import load_model
    from jaxbert.verify.report import sample

    out = tmp_path / "out"
    assert program.main([str(folder), str(out), "--int8", "weights"]) == 0
    text = capsys.readouterr().out
    size = (out / "onnx" / "model.onnx").stat().st_size
    assert f"int8, weights: {size:,} bytes" in text
    found = [tuple(map(float, own)) for own in re.findall(COSINES, text)]
    model = load_model(folder, revision=None, ignore_config=(), dtype="float32")
    ids, mask, _ = sample(model)
    assert len(found) == 2
    for run, (least, mean) in zip(runtimes(out), found, strict=True):
        cosines = []
        for rows in (slice(None), slice(0, 1)):
            seen = mask[rows] != 0
            a, b = (
                np.asarray(side(ids[rows], mask[rows]), np.float64)[seen]
                for side in (run, model.encoder)
            )
            cosines += list((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
        assert min(cosines) == pytest.approx(least, abs=1e-4)
        assert np.mean(cosines) == pytest.approx(mean, abs=1e-5)
        assert least < mean < 1


def write_pairs(file):
    """PAIRS as a file of the kind that its name says."""
    names = ("sentence1", "sentence2", "score")
    if file.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in PAIRS]
    else:
        mark = "\t" if file.suffix == ".tsv" else ","
        lines = [mark.join(map(str, row)) for row in (names, *PAIRS)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("output", [(), SENTENCE])
def test_correlations_are_those_of_the_vectors(program, folder, tmp_path, capsys, output):
    out, sts = tmp_path / "out", write_pairs(tmp_path / "pairs.jsonl")
    more = ("--int8", "weights", "--sts", str(sts))
    assert program.main([str(folder), str(out), *output, *more]) == 0
    full, *others = re.findall(r"on 23 pairs.*: " + SPEARMAN, capsys.readouterr().out)
    encode = Embedder.from_pretrained(folder).encode
    a, b = (encode([row[i] for row in PAIRS]).astype(np.float64) for i in (0, 1))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = 100 * spearman(cosines, np.array([row[2] for row in PAIRS]))
    assert float(full[0]) == pytest.approx(expected, abs=1e-3)
    assert len(others) == 2
    for value, more in others:
        assert float(more) == pytest.approx(float(value) - expected, abs=2e-3)


def test_pairs_may_be_jsonl_csv_or_tsv(program, tmp_path):
    read = [program.int8.scored_pairs(write_pairs(tmp_path / f"p{k}")) for k in FILES]
    assert [tuple(row) for row in read[0]] == PAIRS
    assert read[1] == read[0]
    assert read[2] == read[0]
    quoted = tmp_path / "quoted.tsv"
    quoted.write_text('sentence1\tsentence2\tscore\n"a\tb"\t1\nc\td\t2\n', encoding="utf-8")
    assert program.int8.scored_pairs(quoted)[0].first == '"a'


FILES = (".jsonl", ".csv", ".tsv")


def test_many_texts_are_thinned_out_evenly(program, tmp_path):
    file = tmp_path / "many.txt"
    file.write_text("\n\n".join(map(str, range(599))), encoding="utf-8")
    assert program.int8.calibration_texts(file) == list(map(str, range(0, 599, 2)))


# --- what is refused -----------------------------------------------------------------------------


def test_ranges_of_one_short_text_are_found_out(program, minilm, tmp_path, capsys):
    short, out = tmp_path / "short.txt", tmp_path / "out"
    short.write_text("cat\n", encoding="utf-8")
    more = ("--int8", "full", "--calibration", str(short))
    assert program.main([str(minilm), str(out), *SENTENCE, *more]) == 1
    text = capsys.readouterr().out
    assert "in int8 DIFFERS from the encoder, so nothing is written" in text
    assert "measured on 1 texts; give more of them" in text
    assert not out.exists()


def test_weights_that_are_not_finite_are_found_out(program, folder, tmp_path, capsys, monkeypatch):
    def spoiled(file, mode, calibration):
        model = onnx.load_from_string(file)
        for own in model.graph.initializer:
            if len(own.dims) == 2 and own.data_type == onnx.TensorProto.FLOAT:
                own.raw_data = np.full(own.dims, np.nan, np.float32).tobytes()
        return model.SerializeToString()

    monkeypatch.setattr(program.int8, "in_int8", spoiled)
    assert program.main([str(folder), str(tmp_path / "out"), "--int8", "weights"]) == 1
    assert "do not bear 8 bits" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def refused(program, capsys, *arguments):
    """What it says on stderr, with exit status 2 and nothing written."""
    assert program.main(list(map(str, arguments))) == 2
    error = capsys.readouterr().err
    assert error.startswith("to_onnx.py: ")
    assert error.count("\n") == 1
    assert not Path(arguments[1]).exists()
    return error


def test_refused_options(program, folder, calibration, tmp_path, capsys):
    out = tmp_path / "out"
    say = [program, capsys, folder, out]
    assert "give --calibration FILE.txt" in refused(*say, "--int8", "full")
    full = [*say, "--int8", "full", "--calibration"]
    assert "No such file" in refused(*full, tmp_path / "none.txt")
    file = tmp_path / "bad.txt"
    for content, reason in ((b" \n\n", "has no text in it"), (b"\xff\xfe", "is not UTF-8")):
        file.write_bytes(content)
        assert reason in refused(*full, file)
    weights = [*say, "--int8", "weights"]
    assert "looks at weights alone" in refused(*weights, "--calibration", calibration)
    assert "add --int8 weights" in refused(*say, "--sts", calibration)
    assert "add --int8 weights" in refused(*say, "--calibration", calibration)
    assert "has no tokenizer" in refused(
        program, capsys, GOLDEN / "bert-3heads", out, *full[4:], calibration
    )
    with pytest.raises(SystemExit, match="2"):
        program.main([str(folder), str(out), "--int8", "int4"])
    assert "weights-symmetric" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["a\tb\t1\n", "sentence1\tsentence2\tscore\na\tb\n", "sentence1\tscore\na\t1\n"]
)
def test_refused_tables(program, folder, tmp_path, capsys, content):
    sts = tmp_path / "bad.tsv"
    sts.write_text(content, encoding="utf-8")
    more = ("--int8", "weights", "--sts", sts)
    error = refused(program, capsys, folder, tmp_path / "out", *more)
    assert "columns sentence1, sentence2 and score" in error or "needs two" in error


@pytest.mark.parametrize("package", ["nncf", "openvino", "onnxruntime"])
def test_packages_that_are_missing(program, folder, tmp_path, capsys, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    error = refused(program, capsys, folder, tmp_path / "out", "--int8", "weights")
    assert f"{package} is not installed" in error
    assert "int8" in error


def test_a_failure_of_nncf_is_one_sentence(program, folder, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise KeyError("of NNCF")

    monkeypatch.setattr(program.int8.nncf(), "compress_weights", fail)
    error = refused(program, capsys, folder, tmp_path / "out", "--int8", "weights")
    assert "NNCF failed ('of NNCF'); export without --int8" in error


def test_no_server_is_told_of_it(folder, tmp_path):
    """A stand-in for openvino_telemetry writes a file where it is imported."""
    (tmp_path / "own").mkdir()
    told = tmp_path / "told"
    (tmp_path / "own" / "openvino_telemetry.py").write_text(
        f"open({str(told)!r}, 'w').close()\nclass Telemetry:\n    def __init__(*a, **k): pass\n"
    )
    where = os.pathsep.join([str(tmp_path / "own"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": where}
    command = [sys.executable, str(PROGRAM), str(folder), str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--int8", "weights"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Statistics" not in done.stdout
    assert not told.exists()
    subprocess.run([sys.executable, "-c", "import nncf"], env=environment, check=True)
    assert told.exists(), "the stand-in does not see what it is for"
