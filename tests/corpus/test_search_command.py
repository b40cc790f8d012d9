"""`jaxbert search` over the output of a run, in every format and precision."""

import json

import numpy as np
import pytest

from jaxbert import Embedder, Ranges
from jaxbert.cli import main
from jaxbert.corpus import finished, search_command
from jaxbert.search.searching import search_for
from tests.models import write_folder

TEXTS = ["a b c", "x y", "d e f g", "a b", "q r s t", "c b a", "h i"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model's folder, texts with ids, and ranges."""
    folder = tmp_path_factory.mktemp("search")
    write_folder(folder / "model", "bert-gelu")
    rows = [{"id": f"row {i}", "text": text} for i, text in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    embedder = Embedder.from_pretrained(folder / "model")
    Ranges.of(embedder.encode(TEXTS * 20)).save(folder / "ranges")
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def embed(output, *more):
    given = ["embed", "texts.jsonl", "-o", output, "--model", "model", "--quiet", "--overwrite"]
    assert main([*given, *more]) == 0


def search(capsys, *arguments, status=0):
    """The lines of an answer, or what stderr says."""
    capsys.readouterr()
    assert main(["search", *arguments]) == status
    found = capsys.readouterr()
    return found.out.splitlines() if status == 0 else found.err


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "ubinary"])
def test_a_text_is_most_like_itself(here, capsys, monkeypatch, suffix, precision):
    monkeypatch.setattr(finished, "ROWS", 3)
    output, ranges = f"{precision}.{suffix}", ["--ranges", "ranges"] * (precision == "int8")
    embed(output, "--precision", precision, *ranges, *(["--with-text"] * (suffix != "npy")))
    lines = search(capsys, "q r s t", output, "--model", "model", "--top-k", "3", *ranges)
    assert len(lines) == 3
    first = next(line for line in lines if "row 4" in line)
    score, *row = first.split("\t")
    assert row == ["row 4"] + ["q r s t"] * (suffix != "npy")
    assert score == lines[0].split("\t")[0]  # bits of few features may be those of another
    scores = [float(line.split("\t")[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    if precision != "int8":
        assert abs(float(score) - (15 if precision == "ubinary" else 1)) < 1e-3


def test_the_scores_are_those_of_the_embedder(here, capsys):
    embed("all.npy", "--truncate-dim", "7", "--normalize")
    lines = search(capsys, "a b c d", "all.npy", "--model", "model", "--top-k", "99")
    embedder = Embedder.from_pretrained("model", deterministic=True)
    scores = embedder.similarity(*(embedder.encode(x, truncate_dim=7) for x in ("a b c d", TEXTS)))
    order = np.argsort(-scores[0])
    assert [line.split("\t")[1] for line in lines] == [f"row {i}" for i in order]
    told = [float(line.split("\t")[0]) for line in lines]
    assert np.abs(np.array(told) - scores[0][order]).max() < 1e-5


@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_more_than_all_are_all(here, capsys, monkeypatch, suffix):
    """And no room is made for more."""
    asked = []

    def noted(queries, kind, k):
        asked.append(k)
        return search_for(queries, kind, k)

    monkeypatch.setattr(search_command, "search_for", noted)
    embed(f"all.{suffix}")
    lines = search(capsys, "a b", f"all.{suffix}", "--model", "model", "--top-k", "1000003")
    assert len(lines) == len(TEXTS)
    assert asked == [len(TEXTS)]


def test_rows_without_ids_are_numbered(here, capsys):
    embed("numbers.npy", "--no-ids")
    lines = search(capsys, "x y", "numbers.npy", "--model", "model", "--top-k", "1")
    assert lines[0].split("\t")[1] == "1"


def test_refusals(here, capsys):
    embed("some.npy")
    write_folder("other", "bert-relu")
    for arguments, words in (
        (["nothing.npy", "--model", "model"], "no record nothing.npy.json that vouches"),
        (["some.npy", "--model", "other"], "is not the model that made some.npy"),
        (["some.npy", "--model", "model", "--top-k", "0"], "--top-k is 0"),
        (["some.txt", "--model", "model"], "ends in none of"),
    ):
        assert words in search(capsys, "a", *arguments, status=1)
    embed("bytes.npy", "--precision", "int8", "--ranges", "ranges")
    Ranges(np.zeros(15), np.ones(15)).save("others")
    error = search(capsys, "a", "bytes.npy", "--model", "model", status=1)
    assert "pass the ranges that it was given" in error
    wrong = ["bytes.npy", "--model", "model", "--ranges", "others"]
    assert "are not the ranges" in search(capsys, "a", *wrong, status=1)
    (here / "some.npy").write_bytes(b"short")
    error = search(capsys, "a", "some.npy", "--model", "model", status=1)
    assert "some.npy is damaged" in error
