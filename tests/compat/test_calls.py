"""Arguments of jaxbert.compat that sentence-transformers takes, ignores or refuses."""

import copy
from functools import partial

import numpy as np
import pytest

from jaxbert.compat import CrossEncoder, SentenceTransformer, from_modules, tensors
from jaxbert.errors import InputError, InputTypeError
from tests.models import encoder, published, scored, write_folder

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


def test_keywords_for_the_tokenizer_that_are_none_or_wrong(model):
    expected = model.encode(["a b"])
    np.testing.assert_array_equal(model.encode(["a b"], processing_kwargs={"text": None}), expected)
    for wrong in ({"text": 3}, {"text": {"stride": 3}}, 3, {"audio": {}}):
        with pytest.raises(InputError, match="only max_length of text can be set here"):
            model.encode(["a b"], processing_kwargs=wrong)


@pytest.mark.parametrize("wrong", [1, (), (1, "a"), None])
def test_what_is_no_text_is_named_also_behind_a_prompt(model, wrong):
    with pytest.raises(InputTypeError, match="text 0 is "):
        model.preprocess([wrong], prompt="a ")


def test_a_model_of_modules_is_saved_by_what_is_inside_it(monkeypatch, tmp_path):
    """Though the folder that it was read from is gone."""
    pooled = published(encoder("bert-gelu")) | {"pooler.dense.bias": np.ones(WIDTH, np.float32)}
    write = partial(write_folder, tensors=pooled)
    monkeypatch.setattr(from_modules, "write", lambda modules, place: write(place))
    model = SentenceTransformer(modules=["one"])
    model.native.save_pretrained(tmp_path)
    np.testing.assert_array_equal(SentenceTransformer(tmp_path).encode("a b"), model.encode("a b"))


def test_rank_has_the_arguments_of_theirs(tmp_path):
    model = CrossEncoder(str(write_folder(tmp_path, tensors=scored())))
    documents = ["c d", "y z", "a"]
    expected = model.rank("a b", documents)
    places = (None, False, None, None, 2, False, None)
    found = model.rank("a b", documents, *places, "cpu", model.start_multi_process_pool(), 2)
    assert [row["corpus_id"] for row in found] == [row["corpus_id"] for row in expected]
    former = {"apply_softmax": True, "convert_to_numpy": False, "convert_to_tensor": True}
    found = model.rank("a b", documents, **former)
    assert found == expected
    assert all(type(row["score"]) is float for row in found)
    with pytest.raises(InputError, match="this process computes on cpu"):
        model.rank("a b", documents, device="cuda")
    with pytest.raises(InputError, match="rank has no argument other"):
        model.rank("a b", documents, other=1)
