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
def own(loaded):
    loaded.default_prompt_name = None
    loaded.prompts = {"query": "q ", "document": ""}
    return loaded


def test_an_assigned_prompt_is_the_one_that_is_used(own):
    prompts = own.prompts
    prompts["query"] = "a b "
    own.prompts["new"] = "c "
    assert prompts is own.prompts
    assert own.prompts == {"query": "a b ", "document": "", "new": "c "}
    assert own.encode("d", "query").tobytes() == own.encode("a b d").tobytes()
    assert own.encode_query("d").tobytes() == own.encode("a b d").tobytes()
    assert own.encode("d", "new").tobytes() == own.encode("c d").tobytes()


def test_every_way_to_change_a_dict(own):
    own.prompts.update({"x": "1 "}, y="2 ")
    own.prompts.update([("z", "3 ")])
    own.prompts |= {"w": "4 "}
    del own.prompts["document"]
    assert own.prompts.setdefault("v", "5 ") == "5 "
    assert own.prompts.setdefault("x", "other") == "1 "
    assert own.prompts.pop("w") == "4 "
    assert own.prompts.pop("absent", None) is None
    assert own.prompts.popitem() == ("v", "5 ")
    assert own.prompts == {"query": "q ", "x": "1 ", "y": "2 ", "z": "3 "}
    assert own.prompt("z", None) == "3 "
    own.prompts.clear()
    assert own.prompts == {}
    for change in (lambda: own.prompts.popitem(), lambda: own.prompts.pop("x")):
        with pytest.raises(KeyError):
            change()
    with pytest.raises(InputError, match="no prompt named 'query'"):
        own.encode("a", "query")


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
def test_what_is_no_str_is_refused_and_nothing_is_changed(own, change):
    with pytest.raises(InputTypeError):
        change(own.prompts)
    assert own.prompts == {"query": "q ", "document": ""}


@pytest.mark.parametrize("wrong", [None, 3, ["ab c"], {"a": None}])
def test_what_is_no_mapping_of_str_is_refused(own, wrong):
    with pytest.raises(InputTypeError):
        own.prompts = wrong
    assert own.prompts == {"query": "q ", "document": ""}


@pytest.mark.parametrize(
    "change",
    [
        lambda prompts: prompts.pop("document"),
        lambda prompts: prompts.__delitem__("document"),
        lambda prompts: prompts.popitem(),
        lambda prompts: prompts.clear(),
    ],
)
def test_the_default_prompt_stays(own, change):
    own.default_prompt_name = "document"
    with pytest.raises(InputError, match="set default_prompt_name = None first"):
        change(own.prompts)
    assert own.prompts == {"query": "q ", "document": ""}
    own.prompts["new"] = "x "
    own.default_prompt_name = "new"
    del own.prompts["document"]


def test_other_models_and_copies_do_not_change_with_it(own):
    stack = Stack()
    first, second = (Embedder(own.encoder, own.tokenizer, stack) for _ in range(2))
    first.prompts["query"] = "x "
    assert stack.prompts == second.prompts == {"query": "", "document": ""}
    copies = [copy.deepcopy(own.prompts), pickle.loads(pickle.dumps(own.prompts))]
    copies += [copy.copy(own.prompts), own.prompts | {}, json.loads(json.dumps(own.prompts))]
    copies += [dataclasses.asdict(own.stack)["prompts"], own.prompts.copy()]
    for other in copies:
        assert other == own.prompts
        other["query"] = "y "
    assert own.prompts["query"] == "q "


def test_a_str_of_another_kind_becomes_plain(own):
    class Odd(str):
        def __add__(self, other):
            return "odd"

    own.prompts[Odd("query")] = Odd("a ")
    assert all(type(part) is str for item in own.prompts.items() for part in item)
    assert own.encode("b", "query").tobytes() == own.encode("a b").tobytes()
