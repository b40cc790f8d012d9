"""Which tokens belong to which part of a text, for tokenizers of every kind."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbert import Embedder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import InputError, TextError
from jaxbert.model.head import Normalize, Pooling
from jaxbert.text.chunking import TokenSpans, checked_spans, of_tokens, token_windows
from jaxbert.text.tokenizer import Tokenizer
from tests.models import CONFIGS, make
from tests.tokenizers_of import KINDS, byte_level, unigram, wordpiece
from tests.tolerances import COMPANY

TEXTS = [
    *("", " ", "   ", "a", "a ", " a", "abc  de  ", "😀", " 😀 ", "a 👩\u200d🔬😀", "\u200b"),
    *("e\u0301 ", "[SEP]", "[SEP] a [CLS] ", "</s>", "<s> a</s> ", "x = 1  ", "\n\n", "漢字 a"),
]
PIECES = st.sampled_from([*TEXTS, "abc", "de", " ", "  "])
LONGER = st.lists(PIECES, max_size=9).map("".join)


@pytest.mark.parametrize("kind", KINDS)
def test_spans_of_tokens_cover_the_text_and_every_token_has_one(kind):
    tokenizer = Tokenizer(KINDS[kind](), "right")

    @settings(max_examples=200, deadline=None)
    @given(text=st.one_of(st.sampled_from(TEXTS), LONGER), size=st.integers(1, 5))
    def check(text, size):
        tokens = tokenizer.detailed([text])[0]
        spans = of_tokens(tokens, size, len(text))
        checked_spans(0, len(text), spans)
        assert "".join(text[start:stop] for start, stop in spans) == text
        spans_of_text = TokenSpans.of(tokens, 0, len(text))
        members = [spans_of_text.members(np.array(span)) for span in spans]
        assert all(map(len, members))
        if text:
            np.testing.assert_array_equal(np.concatenate(members), np.arange(len(tokens.ids)))

    check()


@pytest.mark.parametrize("prompt", ["", "abc ", "a: "])
@pytest.mark.parametrize("kind", KINDS)
def test_one_part_over_the_text_has_every_token(kind, prompt):
    tokenizer = Tokenizer(KINDS[kind](), "right")
    for text in TEXTS[1:]:
        tokens = tokenizer.detailed([prompt + text])[0]
        spans_of_text = TokenSpans.of(tokens, len(prompt), len(text))
        members = spans_of_text.members(np.array([0, len(text)]))
        np.testing.assert_array_equal(members, np.arange(len(tokens.ids)))
        assert (spans_of_text.offsets >= 0).all()
        assert (np.diff(spans_of_text.begins) >= 0).all()


def embedder_of(backend, config="bert-gelu", most=19, include_prompt=True):
    size = max(backend.get_vocab_size(), 31)
    encoder = make(dataclasses.replace(CONFIGS[config], vocab_size=size))
    stack = Stack(pooling=Pooling(("mean",), include_prompt), after=(Normalize(),), max_length=most)
    return Embedder(encoder, Tokenizer(backend, "right"), stack)


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("tokenizer", [wordpiece, byte_level, unigram])
def test_one_part_over_the_text_is_encode(tokenizer, include_prompt):
    embedder = embedder_of(tokenizer(), include_prompt=include_prompt)
    for prompt in ("", "ab "):
        texts = [text for text in TEXTS if text and embedder.count_tokens(text, prompt=prompt) < 19]
        spans = [[(0, len(text))] for text in texts]
        vectors = embedder.encode_chunks(texts, spans, prompt=prompt)
        expected = embedder.encode(texts, prompt=prompt)
        assert np.abs(np.concatenate(vectors) - expected).max() <= COMPANY
        chunks = embedder.encode_chunks(texts, embedder.chunker(99), prompt=prompt)
        np.testing.assert_array_equal(np.concatenate(chunks), np.concatenate(vectors))


# --- many parts --------------------------------------------------------------------------------


def members_by_definition(spans_of_text, span):
    """The tokens that begin in a span, with what is before the first token and after the last."""
    text, begins = spans_of_text, spans_of_text.begins
    everything = np.arange(len(text.tokens.ids))
    if span[0] == 0 and span[1] >= text.length:
        return everything
    own = text.first + np.array([i for i, b in enumerate(begins) if span[0] <= b < span[1]], int)
    before = everything[: text.first] if text.first in own else []
    after = everything[text.stop :] if text.stop - 1 in own else []
    return np.concatenate([before, own, after]).astype(int)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_part_are_those_that_begin_in_it(kind):
    tokenizer = Tokenizer(KINDS[kind](), "right")

    @settings(max_examples=200, deadline=None)
    @given(prompt=st.sampled_from(["", "abc ", "a: "]), text=LONGER, data=st.data())
    def check(prompt, text, data):
        (tokens,) = tokenizer.detailed([prompt + text])
        spans_of_text = TokenSpans.of(tokens, len(prompt), len(text))
        start = data.draw(st.integers(0, max(len(text) - 1, 0)))
        span = np.array([start, data.draw(st.integers(start + 1, max(len(text), start + 1)))])
        found = spans_of_text.members(span)
        np.testing.assert_array_equal(found, members_by_definition(spans_of_text, span))

    check()


class Counted(np.ndarray):
    """Numbers that count how many of them any of NumPy's functions reads."""

    read = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        """The function of the numbers, counted again."""
        return self.counted(getattr(ufunc, method), inputs, keywords)

    def __array_function__(self, function, types, arguments, keywords):
        """The function of the numbers, counted again."""
        if function is np.searchsorted and arguments[0].dtype == arguments[1].dtype:
            plain = [np.asarray(x) for x in arguments]
            Counted.read += plain[1].size * (int(np.log2(plain[0].size)) + 1)
            return np.searchsorted(*plain, **keywords)
        return self.counted(function, arguments, keywords)

    def astype(self, dtype):
        """The numbers in another type, counted again."""
        return self.counted(np.ndarray.astype, (self, dtype), {})

    @staticmethod
    def counted(function, arguments, keywords):
        """function of the arguments, whose sizes are counted."""
        plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in arguments]
        Counted.read += sum(np.size(x) for x in plain if isinstance(x, np.ndarray))
        return function(*plain, **keywords).view(Counted)


def numbers_read(words):
    """How many numbers are read for the tokens of so many parts, each a word."""
    (tokens,) = Tokenizer(wordpiece(), "right").detailed(["a " * words])
    text = TokenSpans.of(tokens._replace(offsets=tokens.offsets.view(Counted)), 0, 2 * words)
    Counted.read = 0
    members = [text.members(np.array([i, i + 2])) for i in range(0, 2 * words, 2)]
    assert sum(map(len, members)) == words + 2
    return Counted.read


def test_twice_as_many_parts_take_twice_the_work():
    few, many = numbers_read(257), numbers_read(514)
    assert few > 257, "nothing was counted"
    assert many < 2.3 * few  # quadratic: 4


# --- windows of small models -------------------------------------------------------------------


@pytest.mark.parametrize("most", [3, 4, 7, 19])
def test_the_overlap_follows_the_window(most):
    embedder = embedder_of(wordpiece(), most=most)
    text = "a b c d e f g x y z a b c d e f g x y z"
    assert embedder.encode_chunks(text, embedder.chunker(5)).shape == (4, 15)
    spans_of_text = TokenSpans.of(embedder.tokenizer.detailed([text])[0], 0, len(text))
    room = most - 2
    in_windows = list(token_windows(spans_of_text, most, None))
    assert in_windows[0].stop - in_windows[1].first >= min(256, room // 2)
    with pytest.raises(InputError, match=f"overlap is {room}, but a window of {most} tokens"):
        embedder.encode_chunks(text, embedder.chunker(5), overlap=room)


def test_a_prompt_that_fills_the_window():
    embedder = embedder_of(wordpiece(), most=7)
    with pytest.raises(InputError, match="no room beside the prompt"):
        embedder.encode_chunks("a b c", [(0, 5)], prompt="a b c d e ")


# --- parts without a token ---------------------------------------------------------------------

GAPS = [
    ("abc.\n\n   de.", [(0, 4), (4, 9), (9, 12)], [1]),
    ("a" * 150, [(0, 50), (50, 100), (100, 150)], [1, 2]),
    ("a " + "\u200b" * 5, [(0, 2), (2, 7)], [1]),
    ("  a", [(0, 1), (1, 2), (2, 3)], [0, 1]),
]


@pytest.mark.parametrize(("text", "spans", "empty"), GAPS)
def test_a_part_without_a_token_is_refused_or_nan(text, spans, empty):
    embedder = embedder_of(wordpiece())
    reason = f"text 1 has no token that begins in its chunk {empty[0]}"
    with pytest.raises(TextError, match=reason) as error:
        embedder.encode_chunks(["a", text], [[(0, 1)], spans])
    assert error.value.text == 1
    options = {"on_empty": "nan", "normalize_embeddings": True, "truncate_dim": 7}
    _, vectors = embedder.encode_chunks(["a", text], [[(0, 1)], spans], **options)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(vectors).any(axis=1)), empty)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(vectors).all(axis=1)), empty)
    full = [span for i, span in enumerate(spans) if i not in empty]
    alone = embedder.encode_chunks(text, full, normalize_embeddings=True, truncate_dim=7)
    assert np.abs(np.delete(vectors, empty, axis=0) - alone).max() <= COMPANY


def test_nan_has_no_bits():
    embedder = embedder_of(wordpiece())
    for precision in ("int8", "uint8", "binary", "ubinary"):
        with pytest.raises(InputError, match=f"NaN, which {precision} has not"):
            embedder.encode_chunks("a", [(0, 1)], on_empty="nan", precision=precision)
    with pytest.raises(InputError, match="on_empty is 'zero'"):
        embedder.encode_chunks("a", [(0, 1)], on_empty="zero")
