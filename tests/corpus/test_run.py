"""Runs over files: what is written, how a run goes on, what stops it, and how work is shared."""

import decimal
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxbert import Embedder, Ranges, cli
from jaxbert.corpus import run as module
from jaxbert.errors import ComputationError, InputError, JaxbertError, TextError
from jaxbert.inference.engine import Engine
from jaxbert.text.tokenizer import Tokenizer
from tests.models import encoder, published, write_folder
from tests.tolerances import COMPANY, FUNCTION, close, norms, off

ROOT = Path(__file__).parents[2]
TEXTS = [f"{'a b c d '[: 2 * (i % 5)]}{'q ' * (i % 13)}" for i in range(61)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("model"),
        "jinabert-geglu",
        sentence_bert_config={"max_seq_length": 19},
        config_sentence_transformers={"prompts": {"query": "a b "}},
    )


@pytest.fixture(scope="module")
def vectors(model):
    return Embedder.from_pretrained(model, deterministic=True).encode(TEXTS)


@pytest.fixture
def lines(tmp_path):
    file = tmp_path / "in.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file


def rows(file, **more):
    """A JSONL file with ids and titles."""
    written = [
        {"id": f"d{i}", "text": text, "title": f"t{i}"} | more for i, text in enumerate(TEXTS)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in written))
    return file


def embed(model, *arguments):
    """The command's exit status."""
    given = ["embed", *arguments, "--model", model, "--quiet"]
    return cli.main([str(argument) for argument in given])


# --- what is written ---------------------------------------------------------------------------


def test_vectors_have_the_bits_of_encode_however_the_input_is_cut(
    model, vectors, lines, tmp_path, capsys
):
    for size in (1000, 61, 7, 1):
        out = tmp_path / f"out{size}.npy"
        assert embed(model, lines, "-o", out, "--rows-per-part", size) == 0
        assert np.load(out).tobytes() == vectors.tobytes()
        assert f"61 vectors of width 15 in {out}" in capsys.readouterr().err
        assert not out.with_name(f"{out.name}.parts").exists()
    about = json.loads((tmp_path / "out7.npy.json").read_text())
    assert about["vectors"]["pooling"][0]["modes"] == ["mean"]
    assert about["model"]["name"] == model.name
    assert len(about["model"]["weights_sha256"][0]) == 64


def test_jsonl_carries_ids_fields_and_texts(model, vectors, tmp_path):
    source, out = rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    options = ("--carry", "title", "--with-text", "--rows-per-part", 11, "--precision", "float16")
    assert embed(model, source, "-o", out, *options) == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in written] == [f"d{i}" for i in range(61)]
    assert [row["title"] for row in written] == [f"t{i}" for i in range(61)]
    assert [row["text"] for row in written] == TEXTS
    got = np.array([row["embedding"] for row in written], np.float16)
    np.testing.assert_array_equal(got, vectors.astype(np.float16))


def test_parquet_to_parquet(model, vectors, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"key": list(range(100, 161)), "body": TEXTS, "n": pa.array([1.5] * 61)})
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    options = ("--text-column", "body", "--id-column", "key", "--carry", "n", "--normalize")
    assert embed(model, tmp_path / "in.parquet", "-o", out, *options) == 0
    found = pq.read_table(out)
    assert found["id"].to_pylist() == list(range(100, 161))
    assert found["n"].type == pa.float64()
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    close(found["embedding"].to_pylist(), expected, COMPANY, norms)
    about = json.loads(found.schema.metadata[b"jaxbert"])
    assert about["vectors"]["normalized"] is True


def test_bytes_by_ranges_prompts_and_dimensions(model, vectors, lines, tmp_path):
    embedder = Embedder.from_pretrained(model, deterministic=True)
    options = {"prompt_name": "query", "truncate_dim": 7, "normalize_embeddings": True}
    ranges = Ranges.of(embedder.encode(TEXTS, **options))
    ranges.save(tmp_path / "ranges")
    out = tmp_path / "out.npy"
    given = ("--precision", "int8", "--ranges", tmp_path / "ranges", "--truncate-dim", 7)
    assert embed(model, lines, "-o", out, *given, "--prompt-name", "query", "--normalize") == 0
    expected = embedder.encode(TEXTS, **options, precision="int8", ranges=ranges)
    np.testing.assert_array_equal(np.load(out), expected)


# --- going on ----------------------------------------------------------------------------------


class BrokenError(Exception):
    """Stands for whatever stops a process."""


def broken_after(monkeypatch, parts):
    """A run that dies when so many parts are written; what was computed is counted."""
    write, written = module.Run.write, []

    def counted(self, part):
        if len(written) == parts:
            raise BrokenError
        write(self, part)
        written.append(part.number)

    monkeypatch.setattr(module.Run, "write", counted)
    return written


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_a_broken_run_goes_on_and_ends_in_the_same_bytes(
    model, tmp_path, monkeypatch, suffix, capsys
):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    source = rows(tmp_path / "in.jsonl")
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    options = ("--rows-per-part", 7)
    assert embed(model, source, "-o", whole, *options) == 0
    with monkeypatch.context() as patch:
        written = broken_after(patch, 4)
        assert embed(model, source, "-o", broken, *options) == 1
        assert written == [0, 1, 2, 3]
    assert not broken.exists()
    assert cli.main(["status", str(broken)]) == 3
    assert "4 parts with 28 rows, 0 rejected" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        written = broken_after(patch, 100)
        assert embed(model, source, "-o", broken, *options) == 0
        assert written == [4, 5, 6, 7, 8]
    assert broken.read_bytes() == whole.read_bytes()
    assert cli.main(["status", str(broken)]) == 0
    assert "is complete" in capsys.readouterr().out


def test_a_finished_run_is_not_made_again_unless_something_changed(
    model, lines, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out.npy"
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
    with monkeypatch.context() as patch:
        written = broken_after(patch, 100)
        assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
        assert "is complete already" in capsys.readouterr().err
        assert not written
        assert not (tmp_path / "out.npy.parts").exists()
        lines.write_text(lines.read_text().replace("q q", "q z", 1))  # of the same size
        assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
        assert len(written) == 9
        assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--normalize") == 0
        assert len(written) == 18


def test_what_changed_is_named(model, lines, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        embed(model, lines, "-o", out, "--rows-per-part", 7)
    capsys.readouterr()
    assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--normalize") == 1
    error = capsys.readouterr().err
    assert "vectors.normalized was false and is true" in error
    assert embed(model, lines, "-o", out, "--rows-per-part", 8) == 1
    assert "rows_per_part was 7 and is 8" in capsys.readouterr().err
    other = write_folder(tmp_path / model.name, tensors=changed(), name="jinabert-geglu")
    assert embed(other, lines, "-o", out, "--rows-per-part", 7) == 1
    assert "model.weights_sha256" in capsys.readouterr().err
    lines.write_text(lines.read_text().replace("q q", "q z", 1))  # of the same size
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 1
    error = capsys.readouterr().err
    assert "the input has changed since part 0 was made (rows 0 to 6 differ)" in error
    lines.write_text("\n".join(TEXTS[:7]) + "\n")
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 1
    assert "since part 1 was made (it has fewer rows)" in capsys.readouterr().err
    lines.write_text("")
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 1
    assert "since part 0 was made (it has fewer rows)" in capsys.readouterr().err
    assert not out.exists()
    assert len(list((tmp_path / "out.npy.parts").glob("part-*.npy"))) == 2


def test_rows_that_were_added_behind_finished_parts_go_on(
    model, lines, tmp_path, monkeypatch, vectors
):
    out = tmp_path / "out.npy"
    lines.write_text("\n".join(TEXTS[:50]) + "\n")
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        embed(model, lines, "-o", out, "--rows-per-part", 7)
    lines.write_text("\n".join(TEXTS) + "\n")
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
    assert np.load(out).tobytes() == vectors.tobytes()


def test_another_field_is_another_run(model, tmp_path, capsys):
    source, out = rows(tmp_path / "in.jsonl", body="a b"), tmp_path / "out.npy"
    assert embed(model, source, "-o", out) == 0
    assert embed(model, source, "-o", out, "--text-field", "body") == 0
    assert "complete already" not in capsys.readouterr().err
    assert len(np.unique(np.load(out), axis=0)) == 1


def test_length_one_before_and_after_the_cut_are_told_apart(lines, tmp_path):
    modules = [
        {"path": path, "type": f"sentence_transformers.models.{path[2:] or 'Transformer'}"}
        for path in ("", "1_Pooling", "2_Normalize")
    ]
    pooling = {"1_Pooling__config": {"pooling_mode": "mean"}}
    model = write_folder(tmp_path / "m", "bert-gelu", modules=modules, **pooling)
    out = tmp_path / "out.npy"
    for options, length_one in ((("--normalize",), True), ((), False)):
        assert embed(model, lines, "-o", out, "--truncate-dim", 7, *options) == 0
        lengths = np.linalg.norm(np.load(out), axis=1)
        assert (off(lengths, 1.0) < FUNCTION) == length_one
        about = json.loads((tmp_path / "out.npy.json").read_text())
        assert about["vectors"]["normalized"] is length_one


def changed():
    """The weights with one number more."""
    tensors = dict(published(encoder("jinabert-geglu")))
    tensors["embeddings.LayerNorm.bias"] = tensors["embeddings.LayerNorm.bias"] + 1
    return tensors


def test_a_damaged_part_is_made_again(model, lines, tmp_path, monkeypatch, vectors):
    out = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        broken_after(patch, 3)
        embed(model, lines, "-o", out, "--rows-per-part", 7)
    part = next((tmp_path / "out.npy.parts").glob("part-000001.npy"))
    part.write_bytes(part.read_bytes()[:-9])
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
    assert np.load(out).tobytes() == vectors.tobytes()


# --- bad rows ----------------------------------------------------------------------------------


def bad(tmp_path):
    """JSONL with two rows that cannot be used, and one with an id of another type."""
    file = rows(tmp_path / "in.jsonl")
    written = file.read_text().splitlines()
    written[3], written[20], written[40] = "{", json.dumps({"id": "x"}), '{"id": 7, "text": "a"}'
    file.write_text("\n".join(written) + "\n")
    return file


def test_a_bad_row_stops_the_run_and_names_itself(model, tmp_path, capsys):
    source, out = bad(tmp_path), tmp_path / "out.npy"
    assert embed(model, source, "-o", out, "--rows-per-part", 7) == 1
    error = capsys.readouterr().err
    assert "in.jsonl, row 4 is no JSON" in error
    assert "--on-bad-row skip" in error
    assert error.count("\n") == 1


def test_bad_rows_are_left_out_and_listed(model, vectors, tmp_path, capsys):
    source, out = bad(tmp_path), tmp_path / "out.jsonl"
    assert embed(model, source, "-o", out, "--rows-per-part", 7, "--on-bad-row", "skip") == 0
    assert "59 vectors" in capsys.readouterr().err
    written = [json.loads(line) for line in out.read_text().splitlines()]
    kept = [i for i in range(61) if i not in (3, 20)]
    assert [row["id"] for row in written] == ["7" if i == 40 else f"d{i}" for i in kept]
    got = np.array([row["embedding"] for row in written], np.float32)
    alike = [i for i, place in enumerate(kept) if place != 40]
    np.testing.assert_array_equal(got[alike], vectors[kept][alike])
    rejects = (tmp_path / "out.jsonl.rejects.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in rejects]
    assert len(reasons) == 2
    assert "no field 'text'" in reasons[1]


def spoiled(monkeypatch, texts, model, how=np.nan):
    """An engine that makes numbers of no use of some texts, known by their tokens."""
    run = Engine.run
    tokenizer = Embedder.from_pretrained(model).tokenizer
    unfit = {tuple(ids.tolist()) for ids in tokenizer(texts, 19)}

    def broken(self, program, groups, *more):
        given = []

        def noted():
            for group in groups:
                given.extend(tuple(ids.tolist()) for ids in group)
                yield group

        for members, computed in run(self, program, noted(), *more):
            vectors = computed.copy()
            for member, vector in zip(members, vectors, strict=True):
                if given[member] in unfit:
                    if not np.isfinite(how):
                        raise ComputationError(f"text {member}", int(member))
                    vector[0] = how
            yield members, vectors

    monkeypatch.setattr(Engine, "run", broken)


def different(file, count=61):
    """A JSONL file of texts no two of which are alike, and these."""
    texts = [
        f"{'q ' * (i % 7)}{' '.join(f'{i:06b}'.replace('0', 'a').replace('1', 'b'))}"
        for i in range(count)
    ]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return texts


@pytest.mark.parametrize("size", [1000, 7, 1])
def test_a_vector_that_is_not_finite_is_a_bad_row(model, tmp_path, monkeypatch, capsys, size):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    texts = different(source)
    expected = Embedder.from_pretrained(model, deterministic=True).encode(texts)
    options = (source, "-o", out, "--rows-per-part", size)
    bad = [6, 13, 14, 15, 60]
    with monkeypatch.context() as patch:
        spoiled(patch, [texts[i] for i in bad], model)
        assert embed(model, *options) == 1
        error = capsys.readouterr().err
        assert "the vector of in.jsonl, row 7 is not finite" in error or size == 1000
        assert embed(model, *options, "--on-bad-row", "skip", "--max-rejected", "9%") == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    good = [i for i in range(61) if i not in bad]
    assert [row["id"] for row in written] == good
    got = np.array([row["embedding"] for row in written], np.float32)
    np.testing.assert_array_equal(got, expected[good])
    assert rejects(out) == [
        (f"in.jsonl, row {i + 1}", "gives a vector that is not finite") for i in bad
    ]


def rejects(out):
    """Place and reason of each rejected row."""
    lines = out.with_name(f"{out.name}.rejects.jsonl").read_text().splitlines()
    return [(row["where"], row["reason"]) for row in map(json.loads, lines)]


@pytest.mark.parametrize("size", [1000, 7, 1])
def test_a_text_that_is_refused_is_a_bad_row(model, tmp_path, monkeypatch, capsys, size):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    texts = different(source)
    expected = Embedder.from_pretrained(model, deterministic=True).encode(texts)
    call, unfit = Tokenizer.__call__, {texts[i] for i in (0, 30, 31)}

    def broken(self, texts, *more):
        if unfit & set(texts):
            raise InputError("one of them is not to be had")
        return call(self, texts, *more)

    monkeypatch.setattr(Tokenizer, "__call__", broken)
    options = (source, "-o", out, "--rows-per-part", size)
    assert embed(model, *options) == 1
    error = capsys.readouterr().err
    assert "in.jsonl, row 1 cannot be embedded (one of them is not to be had)" in error
    assert error.count("\n") == 1
    assert embed(model, *options, "--on-bad-row", "skip") == 0
    np.testing.assert_array_equal(np.load(out), np.delete(expected, (0, 30, 31), axis=0))
    assert [where for where, _ in rejects(out)] == [f"in.jsonl, row {i}" for i in (1, 31, 32)]


def test_an_id_that_the_model_lacks_is_a_bad_row(model, tmp_path, monkeypatch):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    texts = different(source)
    call = Tokenizer.__call__

    def beyond(self, some, *more):
        found = call(self, some, *more)
        return [ids + 1000 * (text == texts[40]) for text, ids in zip(some, found, strict=True)]

    monkeypatch.setattr(Tokenizer, "__call__", beyond)
    assert embed(model, source, "-o", out, "--on-bad-row", "skip") == 0
    ((where, reason),) = rejects(out)
    assert where == "in.jsonl, row 41"
    assert "id" in reason


def test_numbers_too_large_for_the_file_are_a_bad_row(model, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    texts = different(source)
    spoiled(monkeypatch, [texts[5]], model, how=1e6)
    options = (source, "-o", out, "--precision", "float16")
    assert embed(model, *options) == 1
    reason = "has a vector with numbers too large for float16"
    assert f"in.jsonl, row 6 {reason}" in capsys.readouterr().err
    assert embed(model, *options, "--on-bad-row", "skip") == 0
    assert rejects(out) == [("in.jsonl, row 6", reason)]
    assert np.load(out).shape == (60, 15)


@pytest.mark.parametrize(("most", "status"), [("2%", 4), ("0.04", 0), ("1", 0), ("0", 4)])
def test_too_many_rejected_rows_end_with_a_status(model, tmp_path, capsys, most, status):
    source, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    different(source)
    source.write_text(source.read_text() + "{}\n[]\n")
    options = (source, "-o", out, "--on-bad-row", "skip", "--max-rejected", most)
    for _ in range(2):  # also when it is complete already
        assert embed(model, *options) == status
        error = capsys.readouterr().err
        assert ("2 of 63 rows were rejected, more than" in error) == (status == 4)
        assert (f"{out}.rejects.jsonl has the reasons" in error) == (status == 4)
    assert np.load(out).shape == (61, 15)
    assert embed(model, source, "-o", "-", *options[3:]) == status
    error = capsys.readouterr().err
    assert "rejects.jsonl" not in error
    assert ("the reasons are above" in error) == (status == 4)


@pytest.mark.parametrize("most", ["-1", "5", "105%", "half", "nan"])
def test_a_share_that_is_none(model, tmp_path, capsys, most):
    different(tmp_path / "in.jsonl")
    assert (
        embed(model, tmp_path / "in.jsonl", "-o", tmp_path / "o.npy", "--max-rejected", most) == 1
    )
    assert "give a share of the rows, 5% or 0.05" in capsys.readouterr().err


def test_an_infinity_that_json_lacks_is_a_bad_row(model, tmp_path, capsys):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": ["a", "b", "c"], "x": [1.5, float("inf"), float("nan")]})
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.jsonl"
    options = (tmp_path / "in.parquet", "-o", out, "--carry", "x")
    assert embed(model, *options) == 1
    assert "in.parquet, row 2 cannot be written: the column 'x'" in capsys.readouterr().err
    assert embed(model, *options, "--on-bad-row", "skip", "--max-rejected", "40%") == 0
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["x"]) for row in written] == [(0, 1.5), (2, None)]
    assert [where for where, _ in rejects(out)] == ["in.parquet, row 2"]


def test_an_error_of_no_text_ends_the_run(model, tmp_path, monkeypatch, capsys):
    different(tmp_path / "in.jsonl")

    def broken(self, texts, *more):
        raise JaxbertError("this is about all of them")

    monkeypatch.setattr(Tokenizer, "__call__", broken)
    options = (tmp_path / "in.jsonl", "-o", tmp_path / "out.npy", "--on-bad-row", "skip")
    assert embed(model, *options) == 1
    assert "jaxbert: this is about all of them\n" in capsys.readouterr().err


# --- ids ---------------------------------------------------------------------------------------

IDS = {
    "first without": ([None, 0, 1], [0, 0, 1]),
    "last without": ([5, 6, None], [5, 6, 2]),
    "number, then text": ([1, "b", 3], ["1", "b", "3"]),
    "text, then number": (["a", 2, None], ["a", "2", "2"]),
    "not one": ([None, None, None], [0, 1, 2]),
    "objects and numbers with a point": ([{"a": 1}, 1.5, True], [0, 1, 2]),
}


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", IDS)
def test_no_row_is_lost_by_its_id(model, tmp_path, monkeypatch, name, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    given, expected = IDS[name]
    source = tmp_path / "in.jsonl"
    rows = [
        {"text": f"{'a ' * i}b"} | ({} if own is None else {"id": own})
        for i, own in enumerate(given)
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outs = []
    for size in (1, 2, 3):
        out = tmp_path / f"out{size}{suffix}"
        options = (source, "-o", out, "--rows-per-part", size, "--on-bad-row", "skip")
        if size == 1:
            with monkeypatch.context() as patch:
                broken_after(patch, 2)
                embed(model, *options)
        assert embed(model, *options) == 0
        outs.append(read_ids(out))
    assert outs == [expected] * 3


def read_ids(out):
    """The ids in an output."""
    if out.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(out)["id"].to_pylist()
    if out.suffix == ".jsonl":
        return [json.loads(line)["id"] for line in out.read_text().splitlines()]
    file = out.with_name(f"{out.name}.ids.jsonl")
    if not file.exists():
        return list(range(len(np.load(out))))
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_ids_of_files_of_different_kinds(model, tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"id": 3, "text": "a"}\n{"text": "b"}\n')
    (tmp_path / "b.csv").write_text("id,text\n7,a\n")
    options = (tmp_path / "*.*", "-o", tmp_path / "out.jsonl")
    out = tmp_path / "out.jsonl"
    for shard in ("0/2", "1/2"):
        assert embed(model, *options, "--rows-per-part", 1, "--shard", shard) == 0
    assert read_ids(out) == ["3", "1", "7"]
    assert "1 rows without an id are numbered by their place" in capsys.readouterr().err
    assert json.loads((tmp_path / "out.jsonl.json").read_text())["id_type"] == "string"
    for none in (("--no-ids",), ("--id-field", "")):
        out = tmp_path / f"none{len(none)}.jsonl"
        assert embed(model, tmp_path / "a.jsonl", tmp_path / "b.csv", "-o", out, *none) == 0
        assert read_ids(out) == [0, 1, 2]


def test_a_column_that_cannot_be_ids_is_refused_before_the_model_is_read(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("text\na\n")
    options = (tmp_path / "a.csv", "-o", tmp_path / "out.npy", "--id-field", "id")
    assert embed(tmp_path / "no model", *options) == 1
    assert "a.csv has no column 'id', but 'text'" in capsys.readouterr().err
    assert not (tmp_path / "out.npy.parts").exists()


# --- names and columns -------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_names_that_are_no_unicode(model, tmp_path, suffix, monkeypatch):
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")
    monkeypatch.setattr(sys, "stderr", said)  # as Python opens it
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a"}\n{}\n')
    except OSError:
        pytest.skip("the file system takes Unicode alone")
    out = tmp_path / f"out{name}{suffix}"
    options = (tmp_path / f"{name}.jsonl", "-o", out, "--on-bad-row", "skip")
    assert embed(model, *options, "--max-rejected", "1") == 0
    assert embed(model, *options, "--max-rejected", "1") == 0
    said.flush()
    assert b"is complete already" in said.buffer.getvalue()
    assert out.exists()
    assert rejects(out)[0][0] == f"{name}.jsonl, row 2"


def test_columns_of_parquet_are_carried_unchanged(model, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    big = pa.array([1_700_000_000_123_456_789 + i for i in range(5)])
    columns = {
        "ns": big.cast(pa.timestamp("ns", "Europe/Paris")),
        "time": pa.array([i or None for i in range(5)], pa.time64("ns")),
        "far": pa.array([3_000_000 + i for i in range(5)], pa.date32()),
        "later": pa.array([400_000_000_000 + i for i in range(5)], pa.timestamp("ms")),
        "uuid": pa.array([bytes([i]) * 16 for i in range(5)], pa.uuid()),
        "money": pa.array([decimal.Decimal(f"{i}.10") for i in range(5)], pa.decimal128(38, 2)),
        "span": pa.array(range(5), pa.duration("ns")),
        "list": pa.array([[i, None] for i in range(5)], pa.list_(pa.int16())),
        "record": pa.array([{"a": i, "b": [str(i)]} for i in range(5)]),
        "kind": pa.array(["x", "y", None, "x", "z"]).dictionary_encode(),
        "bytes": pa.array([bytes([255, i]) for i in range(5)]),
        "half": pa.array(np.arange(5, dtype=np.float16)),
        "map": pa.array([[("k", i)] for i in range(5)], pa.map_(pa.string(), pa.int8())),
        "nan": pa.array([float("nan"), float("inf"), None, 1.5, -0.0], pa.float32()),
    }
    table = pa.table({"text": ["a", "b", None, "c", "d"], **columns})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=3)
    out = tmp_path / "out.parquet"
    carry = [word for name in columns for word in ("--carry", name)]
    options = ("--rows-per-part", 2, "--on-bad-row", "skip", "--max-rejected", "1")
    assert embed(model, tmp_path / "in.parquet", "-o", out, *carry, *options) == 0
    found = pq.read_table(out)
    expected = pq.read_table(tmp_path / "in.parquet").take([0, 1, 3, 4])
    for name in columns:
        assert found[name].type == expected[name].type, name
        one, other = found[name].combine_chunks(), expected[name].combine_chunks()
        if name == "kind":
            one, other = one.dictionary_decode(), other.dictionary_decode()
        assert one.equals(other) or name == "nan", name
    assert str(found["nan"].to_pylist()) == str(expected["nan"].to_pylist())
    names = [name for name in columns if name not in ("bytes", "nan")]
    carry = [word for name in names for word in ("--carry", name)]
    out = tmp_path / "out.jsonl"
    assert embed(model, tmp_path / "in.parquet", "-o", out, *carry, *options) == 0
    first = json.loads(out.read_text().splitlines()[1])
    assert first["ns"] == "2023-11-14T23:13:20.123456790+01:00"
    assert first["time"] == "00:00:00.000000001"
    assert first["uuid"] == "01010101-0101-0101-0101-010101010101"
    assert first["money"] == "1.10"
    assert first["span"] == "PT0.000000001S"
    assert first["record"] == {"a": 1, "b": ["1"]}
    assert first["kind"] == "y"


def test_nothing_but_bad_rows(model, tmp_path):
    (tmp_path / "in.jsonl").write_text("{\n" * 9)
    out = tmp_path / "out.npy"
    options = ("--rows-per-part", 4, "--on-bad-row", "skip")
    assert embed(model, tmp_path / "in.jsonl", "-o", out, *options) == 4
    assert np.load(out).shape == (0, 15)


def test_a_bad_row_may_be_mended_or_left_out_later(model, vectors, tmp_path, capsys):
    source, out = rows(tmp_path / "in.jsonl"), tmp_path / "out.npy"
    good = source.read_text()
    source.write_text(good.replace('"text": "', '"body": "', 21).replace("body", "text", 20))
    assert embed(model, source, "-o", out, "--rows-per-part", 7) == 1
    assert "row 21" in capsys.readouterr().err
    assert cli.main(["status", str(out)]) == 3
    source.write_text(good)
    assert embed(model, source, "-o", out, "--rows-per-part", 7) == 0
    assert np.load(out).tobytes() == vectors.tobytes()


def test_what_was_left_out_is_missed_without_the_option(model, tmp_path, monkeypatch, capsys):
    source, out = bad(tmp_path), tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        embed(model, source, "-o", out, "--rows-per-part", 7, "--on-bad-row", "skip")
    assert embed(model, source, "-o", out, "--rows-per-part", 7) == 1
    assert "row 4 is no JSON" in capsys.readouterr().err


def test_the_output_is_no_input(model, tmp_path, capsys, monkeypatch):
    source, out = rows(tmp_path / "in.jsonl"), tmp_path / "out.jsonl"
    before = source.read_bytes()
    assert embed(model, source, "-o", source) == 1
    assert "is what this run writes" in capsys.readouterr().err
    assert source.read_bytes() == before
    for again in (False, True):
        assert embed(model, tmp_path / "*.jsonl", "-o", out, "--with-text") == 0
        assert ("complete already" in capsys.readouterr().err) == again
    assert len(out.read_text().splitlines()) == 61


def test_stdout_takes_no_shards(model, lines, capsys):
    assert embed(model, lines, "-o", "-", "--shard", "0/2") == 1
    assert "with -o - leave it out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--precision", "int8"), "needs the range of each feature"),
        (("--shard", "3/3"), "counts from 0/3 to 2/3"),
        (("--shard", "half"), "give i/n"),
        (("--rows-per-part", "0"), "must be from 1"),
        (("--carry", "title"), "title has no place in it"),
        (("--prompt-name", "none"), "no prompt named 'none'"),
        (("--truncate-dim", "99"), "from 1 to 15"),
    ],
)
def test_refusals_are_one_sentence(model, lines, tmp_path, capsys, options, reason):
    assert embed(model, lines, "-o", tmp_path / "out.npy", *options) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.npy").exists()


def test_status_of_nothing(tmp_path, capsys):
    assert cli.main(["status", str(tmp_path / "out.npy")]) == 1
    assert "no run for it was begun" in capsys.readouterr().err


def test_a_system_without_locks_is_refused_in_one_sentence(lines, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows: importing it fails
    assert embed(tmp_path / "no model", lines, "-o", tmp_path / "out.npy") == 1
    error = capsys.readouterr().err
    assert error.startswith("jaxbert: jaxbert needs a POSIX system")
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == [lines.name]


# --- many workers ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_shards_together_are_the_single_run(model, lines, tmp_path, vectors, order, capsys):
    out = tmp_path / "out.npy"
    for i in order:
        assert not out.exists()
        assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--shard", f"{i}/3") == 0
    assert np.load(out).tobytes() == vectors.tobytes()
    assert capsys.readouterr().err.count("others are not") == 2
    assert not (tmp_path / "out.npy.parts").exists()


def test_shards_of_different_inputs_are_not_put_together(model, lines, tmp_path, capsys):
    out = tmp_path / "out.npy"
    assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--shard", "0/2") == 0
    lines.write_text(lines.read_text().replace("q q", "q z", 1))
    assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--shard", "1/2") == 1
    assert "the input has changed since part 0" in capsys.readouterr().err
    assert not out.exists()


TOGETHER = """
import os, sys, jax
from jaxbert import cli
jax.distributed.initialize(
    os.environ["ADDRESS"],
    num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
    process_id=int(os.environ.pop("JAX_PROCESS_ID")),
)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("started", [["-m", "jaxbert.cli"], ["-c", TOGETHER]], ids=["by", "in"])
def test_two_processes_under_jax_distributed_share_the_work(
    model, lines, tmp_path, vectors, started
):
    out = tmp_path / "out.npy"
    port = 20_000 + os.getpid() % 20_000
    command = [sys.executable, *started, "embed", lines, "-o", out, "--model", model]
    command += ["--rows-per-part", "7", "--quiet"]
    both = [
        subprocess.Popen(
            command,
            env=os.environ
            | {
                "ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(i),
                "PYTHONPATH": str(ROOT),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert np.load(out).tobytes() == vectors.tobytes()


def test_a_lone_worker_makes_parts_that_went_again(model, lines, tmp_path, monkeypatch, vectors):
    out, write = tmp_path / "out.npy", module.Run.write

    def spoiling(self, part):
        write(self, part)
        if part.number == 3:
            self.parts.record(1).unlink(missing_ok=True)

    monkeypatch.setattr(module.Run, "write", spoiling)
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
    assert np.load(out).tobytes() == vectors.tobytes()


def test_a_run_that_ends_without_its_output_says_so(model, lines, tmp_path, monkeypatch, capsys):
    out, work = tmp_path / "out.npy", module.Run.work

    def spoiling(self):
        summary = work(self)
        self.parts.record(1).unlink(missing_ok=True)
        return summary

    with monkeypatch.context() as patch:
        patch.setattr(module.Run, "work", spoiling)
        assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 3
        assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--shard", "0/3") == 0
        assert embed(model, lines, "-o", out, "--rows-per-part", 7, "--shard", "1/3") == 3
    error = capsys.readouterr().err
    assert "1 parts went while it was made, the first of them 1" in error
    assert "this worker is done, others are not (1 parts are missing)" in error
    assert not out.exists()
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0


def seen(folder):
    """The files of a folder, and what changes if one is written."""
    states = {file.name: file.stat() for file in folder.iterdir()}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in states.items()}


def test_status_writes_nothing(model, lines, tmp_path, monkeypatch, capsys):
    """Of a run that was broken off, by somebody who may not write there."""
    out = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        broken_after(patch, 2)
        embed(model, lines, "-o", out, "--rows-per-part", 7)
    folder = tmp_path / "out.npy.parts"
    before = seen(folder)
    for file in folder.glob("*.lock"):
        file.unlink()
        before.pop(file.name)
    with monkeypatch.context() as patch:

        def refuse(*_, **__):
            raise OSError("read-only")

        for name in ("mkdir", "unlink", "replace", "rename", "utime"):
            patch.setattr(os, name, refuse)
        capsys.readouterr()
        assert cli.main(["status", str(out)]) == 3
    assert "2 parts with 14 rows, 0 rejected\nat work: nobody" in capsys.readouterr().out
    assert seen(folder) == before


def test_status_of_a_folder_that_is_no_run(tmp_path, capsys):
    (tmp_path / "out.npy.parts").mkdir()
    assert cli.main(["status", str(tmp_path / "out.npy")]) == 1
    assert "is no folder of a run" in capsys.readouterr().err
    (tmp_path / "out.npy.parts" / "run.json").write_text("{}")
    assert cli.main(["status", str(tmp_path / "out.npy")]) == 1
    assert "remove" in capsys.readouterr().err


def test_a_second_writer_is_refused(model, lines, tmp_path, monkeypatch, capsys):
    out, again = tmp_path / "out.npy", []
    write = module.Run.write

    def inside(self, part):
        if not again:
            command = [sys.executable, "-m", "jaxbert.cli", "embed", lines, "-o", out]
            given = [*command, "--model", model, "--rows-per-part", "7"]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            again.append(
                subprocess.run(given, env=environment, capture_output=True, text=True, timeout=240)
            )
        write(self, part)

    monkeypatch.setattr(module.Run, "write", inside)
    assert embed(model, lines, "-o", out, "--rows-per-part", 7) == 0
    assert again[0].returncode == 1
    assert "another process is at work" in again[0].stderr
    assert again[0].stderr.count("\n") == 1


def test_stdout_leaves_out_a_text_that_the_tokenizer_refuses(model, tmp_path, capsys, monkeypatch):
    source = tmp_path / "in.txt"
    source.write_text("a b\nrefused\nc\n")
    real = Tokenizer.__call__

    def refusing(self, texts, *more):
        for i, text in enumerate(texts):
            if text == "refused":
                raise TextError(i, "cannot be tokenised")
        return real(self, texts, *more)

    monkeypatch.setattr(Tokenizer, "__call__", refusing)
    options = ("--on-bad-row", "skip", "--max-rejected", "1")
    assert embed(model, source, "-o", "-", *options) == 0
    out, error = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == [0, 2]
    assert "in.txt, row 2 cannot be tokenised" in error
    assert embed(model, source, "-o", "-") == 1
    assert "in.txt, row 2 cannot be tokenised" in capsys.readouterr().err
