"""The command as a person uses it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert import Embedder, cli
from tests.models import GOLDEN, write_folder
from tests.tolerances import FUNCTION, close


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), "jinabert-geglu")


def run(*arguments):
    """The command's exit status, in this process."""
    return cli.main([str(argument) for argument in arguments])


def program(*arguments, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "jaxbert.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


def test_help_does_not_import_jax():
    code = (
        "import sys, jaxbert.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('jax', 'numpy', 'flax', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "embed" in done.stdout
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("command", ["embed", "similarity", "fill", "info", "serve", "verify"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    assert "--model" in capsys.readouterr().out


def test_embed_lines_to_npy(folder, tmp_path, capsys):
    texts = ["a b", "", "c d e", "é"]
    (tmp_path / "in.txt").write_text("a b\n\nc d e\r\né\n", encoding="utf-8")
    assert run("embed", tmp_path / "in.txt", "-o", tmp_path / "out.npy", "--model", folder) == 0
    vectors = np.load(tmp_path / "out.npy")
    embedder = Embedder.from_pretrained(folder, deterministic=True)
    np.testing.assert_array_equal(vectors, embedder.encode(texts))
    assert "4 vectors of width 15" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.npy", "out.npy.json"]


def test_embed_jsonl_to_jsonl(folder, tmp_path):
    rows = [{"id": 1, "body": "a"}, {"id": 2, "body": "b \n c"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    options = ("--text-field", "body", "--normalize", "--with-text", "--model", folder)
    assert run("embed", tmp_path / "in.jsonl", "-o", out, *options) == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["text"] for row in written] == ["a", "b \n c"]
    assert [row["id"] for row in written] == [1, 2]
    embedder = Embedder.from_pretrained(folder, deterministic=True)
    expected = embedder.encode(["a", "b \n c"], normalize_embeddings=True)
    got = np.array([row["embedding"] for row in written], np.float32)
    np.testing.assert_array_equal(got, expected)


def test_embed_from_stdin_to_stdout(folder):
    done = program("embed", "-o", "-", "--model", folder, input=b"a b\nc\n")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(row) for row in rows] == [["id", "embedding"]] * 2
    assert [row["id"] for row in rows] == [0, 1]
    assert len(rows[0]["embedding"]) == 15


@pytest.mark.parametrize("precision", ["float32", "float16", "ubinary"])
def test_stdout_has_the_rows_of_a_file(folder, tmp_path, capsys, precision):
    rows = [
        {"id": 5, "text": "a", "x": [1.5]},
        {"text": "\u00e9 b"},
        {"id": 7, "text": "", "x": "y"},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    options = ("--carry", "x", "--with-text", "--precision", precision, "--model", folder)
    for number in (1, 2, 100):
        more = (*options, "--rows-per-part", number)
        assert run("embed", tmp_path / "in.jsonl", "-o", tmp_path / "out.jsonl", *more) == 0
        capsys.readouterr()
        assert run("embed", tmp_path / "in.jsonl", "-o", "-", *more) == 0
        done = capsys.readouterr()
        assert done.out == (tmp_path / "out.jsonl").read_text("utf-8")
        assert "3 vectors of width 15 in stdout" in done.err


def test_stdout_leaves_out_what_json_lacks(folder, tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": ["a", None, "b", "c"], "x": [1.5, 1.0, float("inf"), float("nan")]})
    pq.write_table(table, tmp_path / "in.parquet")
    options = ("--carry", "x", "--max-rejected", "1", "--model", folder)
    assert run("embed", tmp_path / "in.parquet", "-o", "-", *options) == 1
    assert "row 2 holds null in 'text', not text; correct it" in capsys.readouterr().err
    more = (*options, "--on-bad-row", "skip")
    assert run("embed", tmp_path / "in.parquet", "-o", "-", *more) == 0
    done = capsys.readouterr()
    written = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["id"], row["x"]) for row in written] == [(0, 1.5), (3, None)]
    assert "in.parquet, row 3 cannot be written: the column 'x' cannot be JSON" in done.err


def test_embed_nothing(folder, tmp_path):
    done = program("embed", "-o", tmp_path / "out.npy", "--model", folder, input=b"")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "out.npy").shape == (0, 15)


def test_several_files_follow_one_another(folder, tmp_path):
    for name, text in (("a.txt", "a\n"), ("b.txt", "b\n")):
        (tmp_path / name).write_text(text)
    out = tmp_path / "out.npy"
    run("embed", tmp_path / "a.txt", tmp_path / "b.txt", "-o", out, "--model", folder)
    expected = Embedder.from_pretrained(folder, deterministic=True).encode(["a", "b"])
    np.testing.assert_array_equal(np.load(out), expected)


def test_similarity(folder, capsys):
    assert run("similarity", "a b", "a b", "--model", folder) == 0
    close(float(capsys.readouterr().out), 1.0, FUNCTION)
    run("similarity", "a b", "z", "--model", folder)
    assert float(capsys.readouterr().out) < 0.99


def test_info(minilm, capsys):
    assert run("info", minilm) == 0
    out = capsys.readouterr().out
    for part in (
        "BERT",
        "6, each of 12 heads of 32",
        "22,565,376",
        "mean, then unit length",
        "256 tokens",
        "dense (folded in bfloat16) up to 256 tokens, then blockwise (on cpu)",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "6 x 384 x 12 x 32",
        "left aside in the checkpoint: embeddings.position_ids, pooler.dense.bias",
    ):
        assert part in out


ROWS = {
    "bert-cross-encoder": ("reranker", "CrossEncoder, Encoder", "activation    Identity\n"),
    "bert-cross-encoder-3labels": (
        "classifier",
        "CrossEncoder, Encoder",
        "labels        contradiction, entailment, neutral\n",
    ),
    "bert-mlm": ("masked language model", "MaskedLM, Embedder, Encoder", "the word embeddings"),
    "bert-3heads": ("bare encoder", "Encoder, Embedder", "pooler.dense.weight\n"),
}


@pytest.mark.parametrize("name", ROWS)
def test_info_says_what_each_kind_of_model_is_for(name, capsys):
    assert run("info", GOLDEN / name) == 0
    out, (task, faces, more) = capsys.readouterr().out, ROWS[name]
    assert f"task          {task} (" in out
    assert f"opens with    {faces}\n" in out
    assert more in out
    assert out.count("not used in the JSON files: nothing") == 1


@pytest.mark.parametrize("name", [*ROWS, "jinabert-reranker", "jinabert-mlm"])
def test_verify_compares_the_heads_too(name, capsys, monkeypatch):
    from jaxbert.verify import parts

    assert run("verify", GOLDEN / name) == 0
    found = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert ("logits" in found) is (name != "bert-3heads")
    assert ("pooled:" in found) is (name == "bert-3heads")
    for head in ("classification_logits", "masked_language_logits"):
        right = getattr(parts.reference, head)
        wrong = lambda *more, right=right: 1.001 * right(*more)  # noqa: E731
        monkeypatch.setattr(parts.reference, head, wrong)
    assert run("verify", GOLDEN / name) == int(name != "bert-3heads")


def test_the_kind_of_attention_can_be_forced(minilm, capsys):
    assert run("info", minilm, "--attention", "blockwise") == 0
    assert "blockwise, as asked for" in capsys.readouterr().out
    assert run("similarity", "a b", "a b", "--attention", "dense") == 0
    close(float(capsys.readouterr().out), 1.0, FUNCTION)


def test_info_says_what_is_inferred():
    done = program("info", GOLDEN / "jinabert-qk-devlin-norm-inferred", text=True)
    assert done.returncode == 0
    assert "inferred, not verified" in done.stdout
    assert "alibi, any length" in done.stdout
    assert done.stderr.startswith("jaxbert: warning: ")
    assert done.stderr.count("\n") == 1


def test_verify_agrees_on_the_real_model(minilm, capsys):
    assert run("verify", minilm) == 0
    out = capsys.readouterr().out
    assert all(f"layer {i}" in out for i in range(1, 7))
    assert "agrees with the float64 reference" in out


def test_verify_without_a_tokenizer(capsys):
    assert run("verify", GOLDEN / "jinabert-qk-post-norm") == 0
    assert "random ids" in capsys.readouterr().out


def test_verify_fails_when_the_encoder_is_wrong(folder, capsys, monkeypatch):
    from jaxbert.model import activations

    monkeypatch.setitem(activations.ACTIVATIONS, "gelu", activations.gelu_tanh)
    assert run("verify", folder) == 1
    assert "DIFFERS from the float64 reference" in capsys.readouterr().out


def broken(tmp_path, name):
    """A folder that must be refused."""
    folder = write_folder(tmp_path / name)
    weights = folder / "model.safetensors"
    if name == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif name == "nan":
        tensors = load_file(weights)
        tensors["embeddings.LayerNorm.bias"][0] = np.nan
        save_file(tensors, weights)
    elif name == "tokenizer":
        (folder / "tokenizer.json").write_text("not JSON")
    return folder


@pytest.mark.parametrize("name", ["truncated", "nan", "tokenizer"])
@pytest.mark.parametrize("command", ["info", "verify"])
def test_a_broken_folder_is_one_sentence_and_status_1(name, command, tmp_path, capsys):
    assert run(command, broken(tmp_path, name)) == 1
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.startswith("jaxbert: ")
    assert done.err.count("\n") == 1


def test_what_nobody_expected_is_one_sentence_too(folder, capsys, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(cli.commands, "load", fail)
    assert run("similarity", "a", "b", "--model", folder) == 1
    err = capsys.readouterr().err
    assert err == "jaxbert: RuntimeError: out of memory (JAXBERT_TRACEBACK=1 shows where)\n"
    monkeypatch.setenv("JAXBERT_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run("similarity", "a", "b", "--model", folder)


def test_a_byte_order_mark_is_no_text(folder, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"\xef\xbb\xbfa b\n")
    out = tmp_path / "out.jsonl"
    run("embed", tmp_path / "in.txt", "-o", out, "--with-text", "--model", folder)
    assert json.loads((tmp_path / "out.jsonl").read_text())["text"] == "a b"


BAD = {
    "output is a folder": (["embed", "{in}", "-o", "{folder}"], "is a folder; name a file"),
    "output": (
        ["embed", "{in}", "-o", "{dir}/out.txt"],
        "ends in none of .npy, .parquet and .jsonl",
    ),
    "folder of output": (["embed", "{in}", "-o", "{dir}/no/out.npy"], "does not exist"),
    "input": (["embed", "{dir}/missing.txt", "-o", "{dir}/o.npy"], "missing.txt"),
    "no JSON": (["embed", "{in}", "--format", "jsonl", "-o", "{dir}/o.npy"], "row 1 is no JSON"),
    "no UTF-8": (["embed", "{latin}", "-o", "{dir}/o.npy"], "latin.txt, row 1 is not UTF-8"),
    "model": (["info", "{dir}/nothing"], "is not a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_before_any_work(case, folder, tmp_path, capsys):
    arguments, sentence = BAD[case]
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    names = {"in": tmp_path / "in.txt", "latin": tmp_path / "latin.txt", "dir": tmp_path}
    names["folder"] = tmp_path / "folder.npy"
    names["folder"].mkdir()
    assert run(*(argument.format(**names) for argument in arguments)) == 1
    err = capsys.readouterr().err
    assert err.startswith("jaxbert: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.glob("*.npy*")] == ["folder.npy"]


def test_unknown_options_are_refused():
    with pytest.raises(SystemExit) as stopped:
        run("embed", "--no-such-option")
    assert stopped.value.code == 2
