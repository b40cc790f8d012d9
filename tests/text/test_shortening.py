"""Long texts are cut before they are tokenised, and have the same first tokens."""

import resource
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from jaxbert.text import shortening
from jaxbert.text.tokenizer import Tokenizer
from tests.tokenizers_of import KINDS, byte_level, unigram, wordpiece

PARTS = st.sampled_from(
    [
        *("a", "abc", "abcde fg", "x-y", "-", ".", "漢", "漢字漢字漢", "é", "e\u0301", "\u0301"),
        *(" ", "   ", "\n", "\t", "\u3000", "\xa0", "\x1c", "\x85", "\u200b", "\u200d", "\u0600"),
        *("😀", "👩\u200d🔬", "[SEP]", "</s>", "<s> ", "ﷺ", "=\u0338", "\u00b4", "Σ", "İ", "\x00"),
        *("foo bar", "foo", "bar", "foo-", "-bar"),
    ]
)
# Repeated pieces, so that a text is longer than what is always left.
TEXTS = st.lists(st.tuples(PARTS, st.integers(1, 90)), min_size=1, max_size=12).map(
    lambda parts: "".join(part * times for part, times in parts)
)
ADDED = [
    AddedToken("foo bar"),
    AddedToken("foo-", lstrip=True, rstrip=True),
    AddedToken("bar", single_word=True, normalized=True),
]


def tokenizers_of(kind, added):
    backend = KINDS[kind]()
    if added:
        backend.add_tokens(ADDED)
    return Tokenizer(backend, "right")


@pytest.fixture
def short(monkeypatch):
    """Texts of some hundred characters count as long."""
    monkeypatch.setattr(shortening, "LEAST", 40)
    monkeypatch.setattr(shortening, "PER_TOKEN", 1)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_ids_as_uncut(kind, added, short):
    tokenizer = tokenizers_of(kind, added)
    unshortened = tokenizers_of(kind, added)
    unshortened.shortening = None
    cuts = []

    @settings(max_examples=150, deadline=None)
    @given(text=TEXTS, most=st.integers(3, 40), prompt=st.sampled_from(["", "abc ", "foo "]))
    def check(text, most, prompt):
        for tail in ("", "a", "-"):
            full = prompt + text + tail
            np.testing.assert_array_equal(tokenizer([full], most)[0], unshortened([full], most)[0])
        detailed, other = tokenizer.detailed([full], most)[0], unshortened.detailed([full], most)[0]
        np.testing.assert_array_equal(detailed.offsets, other.offsets)
        cuts.append(len(tokenizer.shortened(0, full, most)) < len(full))

    check()
    assert any(cuts)


LONG = {
    "words": "abc d " * 50_000,
    "spaces": " " * 300_000 + "a",
    "spaces between": ("a" + " " * 999) * 300,
    "one word": "a" * 300_000,
    "ideographs": "漢" * 300_000,
    "marks": "a\u0301" * 150_000,
    "zero width": "\u200b" * 300_000 + " a",
    "emoji": "👩\u200d🔬 " * 70_000,
    "special tokens": "[SEP]" * 60_000,
    "long words": ("x" * 130 + " ") * 2_300,
}


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("make", [wordpiece, byte_level, unigram])
def test_texts_of_one_kind(make, name):
    tokenizer, unshortened = Tokenizer(make(), "right"), Tokenizer(make(), "right")
    unshortened.shortening = None
    np.testing.assert_array_equal(tokenizer([LONG[name]], 17)[0], unshortened([LONG[name]], 17)[0])


@pytest.mark.parametrize("make", [wordpiece, byte_level, unigram])
def test_few_characters_are_tokenised_however_long_the_text_is(make):
    tokenizer = Tokenizer(make(), "right")
    text = "abc d " * 1_000_000
    assert len(tokenizer.shortened(0, text, 17)) <= tokenizer.shortening.few(17)


def test_the_whole_text_is_counted_where_that_is_asked_for():
    tokenizer, told = Tokenizer(wordpiece(), "right"), {}
    tokenizer(["a", "a " * 30_000], 17, told.__setitem__)
    assert told == {1: 30_002}


def test_texts_that_are_cut_on_the_left_are_not_shortened():
    tokenizer = Tokenizer(wordpiece(), "left")
    (ids,) = tokenizer(["a " * 30_000 + "b"], 4)
    np.testing.assert_array_equal(ids, [2, 5, 6, 3])


def with_pattern(backend):
    backend.normalizer = normalizers.Replace("a", "b")


def with_own_splitter(backend):
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")


def without_splitter(backend):
    backend.pre_tokenizer = None


def with_one_word(backend):
    backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)


@pytest.mark.parametrize(
    "change", [with_pattern, with_own_splitter, without_splitter, with_one_word]
)
def test_steps_that_are_not_known_are_given_the_whole_text(change):
    backend = wordpiece()
    change(backend)
    assert Tokenizer(backend, "right").shortening is None


@pytest.mark.skipif(sys.platform == "win32", reason="resource is for POSIX")
def test_memory_does_not_grow_with_the_text():
    tokenizer = Tokenizer(wordpiece(), "right")
    tokenizer(["abc d " * 10_000], 17)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tokenizer(["abc d " * 2_000_000], 17)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 2**10  # KiB; tokenised whole it is more than a GiB


RUNS = [
    one * 3001 for one in ("a", " ", "é", "漢", "😀", "\u0301", "\u200d", "İ", "각", "_", "\t\n")
]
RUNS += ["A\u0301" * 2003, "[SEP]", " [MASK] ", "hello "]


@pytest.fixture(scope="module")
def minilms(minilm):
    """The tokenizer of the real model, and one that tokenises the whole text."""
    tokenizer, unshortened = (Tokenizer.from_folder(minilm) for _ in range(2))
    unshortened.shortening = None
    return tokenizer, unshortened


@given(
    parts=st.lists(st.sampled_from(RUNS), min_size=1, max_size=6),
    max_length=st.sampled_from([3, 17, 256]),
)
def test_endless_words_and_spaces_are_cut_to_the_same_tokens(minilms, parts, max_length):
    tokenizer, unshortened = minilms
    text = "".join(parts)
    (short,) = tokenizer([text], max_length)
    np.testing.assert_array_equal(short, unshortened([text], max_length)[0])


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6, "я" * 10**6 + " b"])
def test_of_an_endless_word_little_is_tokenised(minilm, text):
    tokenizer = Tokenizer.from_folder(minilm)
    assert len(tokenizer.shortening.without_runs(text, 17)) < 1000
