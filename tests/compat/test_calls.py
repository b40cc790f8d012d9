"""Arguments of jaxbert.compat that sentence-transformers takes, ignores or refuses."""

import copy
import warnings
from functools import partial

import numpy as np
import pytest

from jaxbert.compat import CrossEncoder, SentenceTransformer, from_modules, tensors
from jaxbert.compat.named_prompts import BOTH
from jaxbert.errors import ComputationError, InputError, InputTypeError, TextError
from jaxbert.inference.equal_texts import each_once
from tests.models import encoder, published, scored, write_folder
from tests.tolerances import COMPANY, close

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


def test_a_prompt_and_a_name_are_logged_and_raise_no_warning(model, tmp_path, caplog):
    """A test run may turn warnings into errors, where the log says no more than a line."""
    model.prompts = {"query": "x "}
    expected = model.encode(["c"], prompt="a b ")
    reranker = CrossEncoder(str(write_folder(tmp_path, tensors=scored())))
    scores = reranker.predict([("a", "b")], prompt="c ")
    ranked = reranker.rank("a", ["b"], prompt="c ")
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.encode(["c"], prompt="a b ", prompt_name="query")
        np.testing.assert_array_equal(found, expected)
        again = reranker.predict([("a", "b")], prompt="c ", prompt_name="none")
        np.testing.assert_array_equal(again, scores)
        assert reranker.rank("a", ["b"], prompt="c ", prompt_name="none") == ranked
    assert [record.getMessage() for record in caplog.records] == [BOTH] * 3


def test_a_name_without_a_prompt_is_answered_with_the_names(model, tmp_path):
    reranker = CrossEncoder(str(write_folder(tmp_path, tensors=scored())), prompts={"a": "b "})
    known = r"Prompt name 'zebra' not found .* keys \['query', 'document'\]\."
    with pytest.raises(InputError, match=known):
        model.encode(["a"], prompt_name="zebra")
    with pytest.raises(InputError, match=r"Prompt name 'zebra' not found .* \['a'\]\."):
        reranker.predict([("a", "b")], prompt_name="zebra")
    with pytest.raises(InputError, match=f"Default {known[0].lower()}{known[1:]}"):
        model.default_prompt_name = "zebra"
    for call in (model.encode, model.encode_query, reranker.predict):
        with pytest.raises(InputTypeError, match="Prompt name is a int; pass str"):
            call([("a", "b")], prompt_name=3)
    with pytest.raises(InputTypeError, match="Default prompt name is a int"):
        reranker.default_prompt_name = 3
    assert (reranker.default_prompt_name, model.default_prompt_name) == (None, None)


def test_equal_texts_have_equal_vectors_whatever_the_size_of_a_call(model):
    """So that ties are ties where a corpus is encoded in chunks and sorted by score."""
    calls = [model.encode(["a b c"] * n, batch_size=3) for n in (2, 3, 7, 19)]
    rows = np.concatenate([*calls, model.encode(["a b c"])])
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[0], (32, WIDTH)))
    mixed = model.encode(["c", "a b c", ("a", "b"), "c", "a b c", "c"])
    np.testing.assert_array_equal(mixed[[0, 1]], mixed[[3, 4]])
    close(mixed[[0, 1, 5]], model.encode(["c", "a b c", "c"]), COMPANY)


@pytest.mark.parametrize("kind", [SentenceTransformer, CrossEncoder])
def test_a_folder_for_later_versions_is_refused_as_there(kind, tmp_path):
    settings = {"requirements": {"transformers": ">=999"}}
    tensors = None if kind is SentenceTransformer else scored()
    folder = write_folder(tmp_path, tensors=tensors, config_sentence_transformers=settings)
    with pytest.raises(ImportError, match="transformers>=999"):
        kind(str(folder))
    assert kind(str(folder), ignore_config=("requirements",)).prompts is not None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ComputationError("text 1", 1), "the vector of text 3 is not finite"),
        (TextError(1, "is long"), "text 3 is long"),
    ],
)
def test_of_equal_texts_the_first_is_named(error, words):
    def encode(texts):
        assert texts == ["a", "b"]
        raise error

    with pytest.raises(type(error), match=words) as caught:
        each_once(["a", "a", "a", "b", "a", "b"], encode)
    assert caught.value.text == 3


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
