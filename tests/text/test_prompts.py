"""Prompts can be changed item by item, as in a plain dict, with the checks of the whole."""

import copy
import dataclasses
import json
import pickle

import pytest

from jaxbert import Embedder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import InputError, InputTypeError
from tests.models import write_folder


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return Embedder.from_pretrained(write_folder(tmp_path_factory.mktemp("prompts"), "bert-gelu"))


@pytest.fixture
def embedder(loaded):
    loaded.default_prompt_name = None
    loaded.prompts = {"query": "q ", "document": ""}
    return loaded


def test_an_assigned_prompt_is_the_one_that_is_used(embedder):
    prompts = embedder.prompts
    prompts["query"] = "a b "
    embedder.prompts["new"] = "c "
    assert prompts is embedder.prompts
    assert embedder.prompts == {"query": "a b ", "document": "", "new": "c "}
    assert embedder.encode("d", "query").tobytes() == embedder.encode("a b d").tobytes()
    assert embedder.encode_query("d").tobytes() == embedder.encode("a b d").tobytes()
    assert embedder.encode("d", "new").tobytes() == embedder.encode("c d").tobytes()


def test_every_way_to_change_a_dict(embedder):
    embedder.prompts.update({"x": "1 "}, y="2 ")
    embedder.prompts.update([("z", "3 ")])
    embedder.prompts |= {"w": "4 "}
    del embedder.prompts["document"]
    assert embedder.prompts.setdefault("v", "5 ") == "5 "
    assert embedder.prompts.setdefault("x", "other") == "1 "
    assert embedder.prompts.pop("w") == "4 "
    assert embedder.prompts.pop("absent", None) is None
    assert embedder.prompts.popitem() == ("v", "5 ")
    assert embedder.prompts == {"query": "q ", "x": "1 ", "y": "2 ", "z": "3 "}
    assert embedder.prompt("z", None) == "3 "
    embedder.prompts.clear()
    assert embedder.prompts == {}
    for change in (lambda: embedder.prompts.popitem(), lambda: embedder.prompts.pop("x")):
        with pytest.raises(KeyError):
            change()
    with pytest.raises(InputError, match="no prompt named 'query'"):
        embedder.encode("a", "query")


@pytest.mark.parametrize(
    "change",
    [
        lambda prompts: prompts.__setitem__("query", 3),
        lambda prompts: prompts.__setitem__(3, "query"),
        lambda prompts: prompts.setdefault("other", None),
        lambda prompts: prompts.update(query="new", other=None),
        lambda prompts: prompts.update({"query": "new", 3: "x"}),
        lambda prompts: prompts.update(3),
        lambda prompts: prompts.__ior__({"query": "new", "other": b""}),
    ],
)
def test_what_is_no_str_is_refused_and_nothing_is_changed(embedder, change):
    with pytest.raises(InputTypeError):
        change(embedder.prompts)
    assert embedder.prompts == {"query": "q ", "document": ""}


@pytest.mark.parametrize("wrong", [None, 3, ["ab c"], {"a": None}])
def test_what_is_no_mapping_of_str_is_refused(embedder, wrong):
    with pytest.raises(InputTypeError):
        embedder.prompts = wrong
    assert embedder.prompts == {"query": "q ", "document": ""}


@pytest.mark.parametrize(
    "change",
    [
        lambda prompts: prompts.pop("document"),
        lambda prompts: prompts.__delitem__("document"),
        lambda prompts: prompts.popitem(),
        lambda prompts: prompts.clear(),
    ],
)
def test_the_default_prompt_stays(embedder, change):
    embedder.default_prompt_name = "document"
    with pytest.raises(InputError, match="set default_prompt_name = None first"):
        change(embedder.prompts)
    assert embedder.prompts == {"query": "q ", "document": ""}
    embedder.prompts["new"] = "x "
    embedder.default_prompt_name = "new"
    del embedder.prompts["document"]


def test_other_models_and_copies_do_not_change_with_it(embedder):
    stack = Stack()
    first, second = (Embedder(embedder.encoder, embedder.tokenizer, stack) for _ in range(2))
    first.prompts["query"] = "x "
    assert stack.prompts == second.prompts == {"query": "", "document": ""}
    copies = [copy.deepcopy(embedder.prompts), pickle.loads(pickle.dumps(embedder.prompts))]
    copies += [
        copy.copy(embedder.prompts),
        embedder.prompts | {},
        json.loads(json.dumps(embedder.prompts)),
    ]
    copies += [dataclasses.asdict(embedder.stack)["prompts"], embedder.prompts.copy()]
    for other in copies:
        assert other == embedder.prompts
        other["query"] = "y "
    assert embedder.prompts["query"] == "q "


def test_a_str_of_another_kind_becomes_plain(embedder):
    class Odd(str):
        def __add__(self, other):
            return "odd"

    embedder.prompts[Odd("query")] = Odd("a ")
    assert all(type(part) is str for item in embedder.prompts.items() for part in item)
    assert embedder.encode("b", "query").tobytes() == embedder.encode("a b").tobytes()
