"""The real all-MiniLM-L6-v2: stored sentence-transformers vectors, and the published STS score."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from scipy.stats import spearmanr

from jaxbert import Embedder
from tests.models import GOLDEN
from tests.tolerances import FUNCTION, MINILM, VISIBLE, close, norms, off


@pytest.fixture(scope="module")
def embedder(minilm):
    return Embedder.from_pretrained(minilm)


@pytest.fixture(scope="module")
def texts():
    return json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))


def test_stored_sentence_transformers_vectors(embedder, texts):
    expected = load_file(GOLDEN / "minilm" / "golden.safetensors")["vectors"]
    got = embedder.encode(texts)
    assert got.shape == expected.shape == (len(texts), 384)
    close(norms(expected), 1.0, FUNCTION)
    close(got, expected, MINILM, norms)


def test_the_folder_decides_what_is_done(embedder):
    assert embedder.max_seq_length == 256  # tokenizer.json says 128
    assert embedder.stack.pooling.modes == ("mean",)
    assert [type(step).__name__ for step in embedder.stack.after] == ["Normalize"]
    assert embedder.get_embedding_dimension() == 384


def test_texts_are_cut_at_256_tokens_and_not_at_128(embedder):
    long = "river stone " * 300
    count = {n: len(embedder.tokenizer([long], n)[0]) for n in (128, 256)}
    assert count == {128: 128, 256: 256}
    vectors = [embedder.encode(long, max_length=n) for n in (None, 256, 128)]
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert off(vectors[0], vectors[2]) > VISIBLE


def test_sts_benchmark(embedder):
    folder = os.environ.get("JAXBERT_DATA")
    if not folder:
        pytest.skip("set JAXBERT_DATA to a folder that holds stsbenchmark-test.jsonl")
    lines = (Path(folder) / "stsbenchmark-test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    first, second = (
        embedder.encode([row[key] for row in rows]) for key in ("sentence1", "sentence2")
    )
    cosines = (first * second).sum(axis=1)
    score = 100 * spearmanr(cosines, [row["score"] for row in rows]).statistic
    assert len(rows) == 1379
    assert score == pytest.approx(82.03, abs=5e-3)
