"""Tasks of mteb on real texts: every score is that of sentence-transformers."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sentence_transformers")

from jaxbert import Embedder
from jaxbert.mteb import MtebEncoder
from tests.tolerances import MTEB

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def data():
    folder = os.environ.get("JAXBERT_DATA")
    if not folder:
        pytest.skip("set JAXBERT_DATA to a folder with stsbenchmark-test.jsonl, mixed.jsonl.gz")
    return Path(folder)


@pytest.fixture(scope="module")
def mteb(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTEB_CACHE", str(tmp_path_factory.mktemp("mteb")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield pytest.importorskip("mteb")


@pytest.fixture(scope="module")
def both(mteb, minilm):
    """The same weights in both libraries."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(minilm), device="cpu")
    return (
        MtebEncoder(Embedder.from_pretrained(minilm), "local/minilm"),
        mteb.SentenceTransformerEncoderWrapper(theirs),
    )


def pairs_of_sentences(data):
    lines = (data / "stsbenchmark-test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[::8]]


def paragraphs(data):
    with gzip.open(data / "mixed.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row for row in rows if row["kind"] == "paragraph"]


def sts(tasks, data):
    return tasks.sts(pairs_of_sentences(data))


def pairs(tasks, data):
    return tasks.pairs(pairs_of_sentences(data))


def retrieval(tasks, data):
    """With equal documents and equal queries, whose scores are ties."""
    texts = [row["text"] for row in paragraphs(data)[:200]]
    return tasks.retrieval(texts + texts[:60:3])


def clustering(tasks, data):
    rows = paragraphs(data)
    sources = [source for source, _ in Counter(row["source"] for row in rows).most_common(4)]
    chosen = [row for row in rows if row["source"] in sources][:120]
    return tasks.clustering([row["text"] for row in chosen], [row["source"] for row in chosen])


@pytest.mark.parametrize(
    ("task", "number"), [(sts, 9), (pairs, 31), (retrieval, 140), (clustering, 2)]
)
def test_all_scores_are_those_of_sentence_transformers(mteb, both, data, task, number):
    from tests.parity import local_tasks

    ours, theirs = (scores(mteb, encoder, task(local_tasks, data)) for encoder in both)
    assert ours.keys() == theirs.keys()
    assert len(ours) >= number
    far = {
        name: (ours[name], theirs[name])
        for name in ours
        if ours[name] != pytest.approx(theirs[name], abs=MTEB, nan_ok=True)
    }
    assert not far


def scores(mteb, encoder, task):
    """The numbers that a task gives, by name."""
    results = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False)
    (row,) = results.task_results[0].scores["test"]
    return {name: value for name, value in row.items() if isinstance(value, int | float)}
