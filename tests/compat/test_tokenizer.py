"""The tokenizer in the manner of transformers: what cuts, what fills up, and what can be set."""

import copy

import numpy as np
import pytest

from jaxbert.compat import SentenceTransformer, tensors
from jaxbert.errors import InputError
from tests.models import write_folder
from tests.tolerances import COMPANY, close, norms

LONG = "a b c d e f g h " * 5


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = write_folder(
        tmp_path_factory.mktemp("model"),
        "bert-gelu",
        sentence_bert_config={"max_seq_length": 17},
    )
    return SentenceTransformer(str(folder))


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    monkeypatch.setattr(tensors, "has_torch", lambda: False)


@pytest.fixture
def model(loaded):
    return copy.deepcopy(loaded)


@pytest.fixture
def tokenizer(model):
    return model.tokenizer


def alike(a, b):
    close(np.asarray(a), np.asarray(b), COMPANY, norms)


def test_a_length_alone_cuts(tokenizer):
    assert len(tokenizer(LONG, max_length=7)["input_ids"]) == 7
    assert len(tokenizer.encode(LONG, max_length=7)) == 7
    assert len(tokenizer(LONG)["input_ids"]) == 42
    for whole in ({"truncation": False}, {"padding": True}, {"padding": "max_length"}):
        assert len(tokenizer(LONG, max_length=7, **whole)["input_ids"]) == 42


def test_no_room_is_kept_for_special_tokens_that_are_not_added(tokenizer):
    whole = tokenizer.encode("a b c d e", add_special_tokens=False)
    options = {"add_special_tokens": False, "truncation": True, "return_offsets_mapping": True}
    for most in (1, 2, 4):
        found = tokenizer(["a b c d e", "c"], max_length=most, **options)
        assert found["input_ids"] == [whole[:most], whole[2:3]]
        assert len(found["offset_mapping"][0]) == len(found["attention_mask"][0]) == most
    tokenizer.truncation_side = "left"
    assert tokenizer("a b c d e", max_length=2, **options)["input_ids"] == whole[-2:]


def test_a_batch_is_decoded(tokenizer):
    ids = tokenizer(["a b", "c d"])["input_ids"]
    for given in (ids, np.array(ids), tuple(map(np.array, ids))):
        assert tokenizer.decode(given, skip_special_tokens=True) == ["a b", "c d"]
    assert tokenizer.decode(ids[0][1]) == "a"
    assert tokenizer.decode([]) == ""


def test_rows_are_filled_up_on_either_side(model, caplog):
    texts, tokenizer = ["a b c d", "e"], model.tokenizer
    options = {"padding": True, "return_offsets_mapping": True, "return_special_tokens_mask": True}
    right, alone = tokenizer(texts, **options), tokenizer(texts, **{**options, "padding": False})
    fills = {
        "input_ids": tokenizer.pad_token_id,
        "offset_mapping": (0, 0),
        "special_tokens_mask": 1,
    }
    assert not caplog.records
    tokenizer.padding_side = "left"
    assert "encode gives a text the vector that it has alone" in caplog.text
    left = tokenizer(texts, **options)
    for name, rows in alone.items():
        fill = [fills.get(name, 0)] * 3
        assert right[name] == [rows[0], [*rows[1], *fill]], name
        assert left[name] == [rows[0], [*fill, *rows[1]]], name
    assert tokenizer.pad({"input_ids": alone["input_ids"]})["input_ids"] == left["input_ids"]
    assert copy.copy(model).tokenizer.padding_side == "left"
    assert copy.deepcopy(model).tokenizer.padding_side == "left"
    with pytest.raises(InputError, match="padding_side is 'middle'"):
        tokenizer.padding_side = "middle"
    tokenizer.padding_side = "right"
    assert tokenizer(texts, **options) == right


@pytest.mark.parametrize("include", [True, False])
def test_vectors_do_not_depend_on_the_side_but_for_forward(model, include):
    """In forward a column is a position, as in sentence-transformers."""
    texts = ["a b c d", "e"]
    model.set_pooling_include_prompt(include)
    expected = model.encode(texts, prompt="x y ")
    model.tokenizer.padding_side = "left"
    alike(model.encode(texts, prompt="x y "), expected)
    found = model(model.preprocess(texts, prompt="x y "))["sentence_embedding"]
    alike(found[0], expected[0])
    assert np.abs(found[1] - expected[1]).max() > 100 * COMPANY


def test_the_side_where_texts_are_cut_is_obeyed(model, tmp_path):
    other = copy.copy(model)
    before, end = model.encode([LONG]), model.tokenizer.decode(model.tokenizer(LONG)["input_ids"])
    other.tokenizer.truncation_side = "left"
    assert other.tokenizer.truncation_side == "left"
    last = " ".join(end.split()[-16:-1])
    alike(other.encode([LONG]), model.encode([last]))
    assert np.abs(before - other.encode([LONG])).max() > 100 * COMPANY
    alike(model.encode([LONG]), before)
    alike(other.encode(["a b " * 50_000 + LONG]), model.encode([last]))
    other.save(tmp_path)
    assert SentenceTransformer(tmp_path).tokenizer.truncation_side == "left"
    other.tokenizer.truncation_side = "right"
    alike(other.encode([LONG]), before)
    with pytest.raises(InputError, match="truncation_side is 'start'"):
        other.tokenizer.truncation_side = "start"


@pytest.mark.parametrize("name", ["cls_token", "pad_token_id", "chat_template", "decode"])
def test_what_would_change_nothing_cannot_be_set(tokenizer, name):
    with pytest.raises(InputError, match=f"{name} of the tokenizer .* cannot be set"):
        setattr(tokenizer, name, "[X]")
    tokenizer.model_max_length = 5
    assert len(tokenizer(LONG, truncation=True)["input_ids"]) == 5


def test_rows_are_filled_up_beside_columns_that_are_not(tokenizer):
    rows = [
        {"input_ids": [1, 2], "special_tokens_mask": [1, 0], "label": 1, "words": [7], "text": "a"},
        {"input_ids": [3], "special_tokens_mask": [0], "label": 0, "words": [7, 8], "text": "b"},
    ]
    assert tokenizer.pad(rows) == {
        "input_ids": [[1, 2], [3, 0]],
        "attention_mask": [[1, 1], [1, 0]],
        "special_tokens_mask": [[1, 0], [0, 1]],
        "label": [1, 0],
        "words": [[7], [7, 8]],
        "text": ["a", "b"],
    }
    with pytest.raises(InputError, match="pass padding=True"):
        tokenizer.pad(rows, return_tensors="np")
    with pytest.raises(InputError, match="a column holds 'a'"):
        tokenizer.pad([{"input_ids": [1], "text": "a"}], return_tensors="np")
    with pytest.raises(InputError, match="label has 1 rows beside 2"):
        tokenizer.pad({"input_ids": [[1], [2]], "label": [1]})


def test_arrays_of_different_lengths_give_arrays(tokenizer):
    rows = [{"input_ids": np.array([1, 2]), "score": 0.5}, {"input_ids": np.array([3]), "score": 1}]
    for given in (rows, {name: [row[name] for row in rows] for name in rows[0]}):
        found = tokenizer.pad(given)
        np.testing.assert_array_equal(found.input_ids, [[1, 2], [3, 0]])
        np.testing.assert_array_equal(found.attention_mask, [[1, 1], [1, 0]])
        np.testing.assert_array_equal(found.score, np.array([0.5, 1.0], np.float32))
    one = tokenizer.pad({"input_ids": np.array([1, 2, 3])}, pad_to_multiple_of=5)
    np.testing.assert_array_equal(one.attention_mask, [1, 1, 1, 0, 0])
