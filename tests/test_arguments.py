"""What is a text, and what is a list of texts."""

import collections
import types

import numpy as np
import pytest

from jaxbert import Embedder
from jaxbert.arguments import as_list
from jaxbert.errors import InputTypeError, TextError
from tests.models import write_folder


class Escaped(str):
    """As markupsafe.Markup: what is joined to it is escaped, and it has own ideas of itself."""

    def __add__(self, other):
        return Escaped(str.__add__(self, other.replace("a", "z")))

    def __radd__(self, other):
        return Escaped(other.replace("a", "z") + str.__str__(self))

    def __str__(self):
        return "z"

    def __len__(self):
        return 1

    def __getitem__(self, key):
        return Escaped("z")

    def isascii(self):
        return True

    def encode(self, *arguments):
        return b"z"


class Series(list):
    """As pandas.Series: it has keys, those of its rows."""

    dtype = "str"

    def keys(self):
        return range(len(self))


class Frame:
    """As pandas.DataFrame: it is iterated as the names of its columns."""

    columns = ("text",)

    def __iter__(self):
        return iter(self.columns)


class Dataset(Frame):
    columns = None

    @property
    def column_names(self):
        raise AssertionError("computed")


class Group:
    """As an HDF5 group."""

    def keys(self):
        return ["text"]

    def __iter__(self):
        return iter(self.keys())

    def __getitem__(self, key):
        return key


def with_columns():
    found = type("Table", (), {"__iter__": lambda self: iter(["text"])})()
    found.columns = ["text"]
    return found


TABLES = [
    Frame(),
    Dataset(),
    Group(),
    with_columns(),
    {"text": "a"},
    collections.OrderedDict(text="a"),
    collections.UserDict(text="a"),
    collections.ChainMap({"text": "a"}),
    types.MappingProxyType({"text": "a"}),
    {"a"},
    frozenset("a"),
    b"a",
    bytearray(b"a"),
    3,
    None,
    np.array("a"),
]


@pytest.mark.parametrize("inputs", TABLES, ids=lambda own: type(own).__name__)
def test_names_are_no_texts(inputs):
    with pytest.raises(InputTypeError, match="pass"):
        as_list(inputs)


def test_arrow_tables(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"text": ["a", "b"]})
    for inputs in (table, table.to_batches()[0]):
        with pytest.raises(InputTypeError, match="pass one column"):
            as_list(inputs)
    assert as_list(table["text"].to_pylist()) == ["a", "b"]


@pytest.mark.parametrize(
    "inputs",
    [
        ["a", "b"],
        ("a", "b"),
        iter("ab"),
        np.array(["a", "b"]),
        np.array(["a", "b"], object),
        Series("ab"),
        dict.fromkeys("ab").keys(),
        dict(x="a", y="b").values(),
        collections.deque("ab"),
        [np.str_("a"), Escaped("b")],
    ],
    ids=lambda own: type(own).__name__,
)
def test_lists_of_texts(inputs):
    found = as_list(inputs)
    assert found == ["a", "b"]
    assert {type(text) for text in found} == {str}


@pytest.mark.parametrize(
    "inputs", [np.zeros((2, 3)), [1], [None], [b"a"], [["a"]], [{"text": "a"}]]
)
def test_elements_that_are_no_texts(inputs):
    with pytest.raises(InputTypeError, match="text 0 is a"):
        as_list(inputs)


def test_a_lone_surrogate_is_found_behind_a_subclass():
    with pytest.raises(TextError, match="text 1 has a lone surrogate at character 1"):
        as_list(["a", Escaped("b\ud800")])


def test_a_subclass_of_str_is_its_characters(tmp_path):
    stack = {"prompts": {"query": "a b "}, "default_prompt_name": None}
    embedder = Embedder.from_pretrained(write_folder(tmp_path, config_sentence_transformers=stack))
    plain = embedder.encode("c d", prompt="a b ")
    for text in ("c d", Escaped("c d")):
        for prompt in ("a b ", Escaped("a b ")):
            np.testing.assert_array_equal(embedder.encode(text, prompt=prompt), plain)
            np.testing.assert_array_equal(embedder.encode([text], prompt=prompt)[0], plain)
            assert embedder.count_tokens(text, prompt=prompt) == 6
            own = embedder.encode_chunks(text, lambda text: [(0, len(text))], prompt=prompt)
            np.testing.assert_allclose(own[0], plain, atol=1e-6 * np.linalg.norm(plain))
    np.testing.assert_array_equal(embedder.encode("c d", Escaped("query")), plain)
    embedder.prompts = {Escaped("own"): Escaped("a b ")}
    assert {type(own) for pair in embedder.prompts.items() for own in pair} == {str}
    np.testing.assert_array_equal(embedder.encode(Escaped("c d"), "own"), plain)
    np.testing.assert_array_equal(embedder.tokenizer([Escaped("c d")])[0], [2, 7, 8, 3])
