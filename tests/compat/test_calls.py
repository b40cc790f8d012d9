"""Arguments of jaxbert.compat that sentence-transformers takes, ignores or refuses."""

import copy

import numpy as np
import pytest

from jaxbert.compat import CrossEncoder, SentenceTransformer, tensors
from tests.models import scored, write_folder

WIDTH = 15


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return SentenceTransformer(str(write_folder(tmp_path_factory.mktemp("model"), "bert-gelu")))


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    monkeypatch.setattr(tensors, "has_torch", lambda: False)


@pytest.fixture
def model(loaded):
    return copy.deepcopy(loaded)


def test_forward_does_not_cut_vectors(model):
    expected = model(model.preprocess(["a b", "c"]))["sentence_embedding"]
    model.truncate_dim = 7
    assert expected.shape == (2, WIDTH)
    found = model(model.preprocess(["a b", "c"]))["sentence_embedding"]
    np.testing.assert_array_equal(found, expected)
