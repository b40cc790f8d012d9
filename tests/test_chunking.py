"""Late chunking: one chunk is `encode`, windows cover the text, and every bad span is named."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbert import Embedder
from jaxbert.errors import InputError, InputTypeError
from jaxbert.text.chunking import TokenSpans, checked_spans, of_tokens, token_windows
from jaxbert.text.tokenizer import Tokens
from tests.models import write_folder
from tests.tolerances import COMPANY, VISIBLE, close, norms, off

TEXT = "abc de, fgh ijk lmn o pq rst uvw x yz"
MODES = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]


def folder(path, mode="mean", include_prompt=True, **more):
    kinds = ["Transformer", "Pooling", "Normalize"]
    return write_folder(
        path,
        "jinabert-geglu",
        modules=[
            {"path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
            for i, kind in enumerate(kinds)
        ],
        **{"1_Pooling__config": {"pooling_mode": mode, "include_prompt": include_prompt}},
        **more,
    )


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return Embedder.from_pretrained(folder(tmp_path_factory.mktemp("mean")))


def alike(a, b):
    close(a, b, COMPANY, norms)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_one_chunk_over_the_text_is_encode(tmp_path, mode, include):
    embedder = Embedder.from_pretrained(folder(tmp_path, mode, include))
    for options in ({}, {"prompt": "b c "}):
        found = embedder.encode_chunks(TEXT, [(0, len(TEXT))], **options)
        alike(found, embedder.encode([TEXT], **options))


def test_chunks_are_means_of_states_that_saw_the_whole_text(embedder):
    spans = [(0, 6), (8, 15), (11, 23)]
    found = embedder.encode_chunks(TEXT, spans)
    own = embedder.encode_tokens(TEXT)
    for (start, stop), vector in zip(spans, found, strict=True):
        inside = (own.offsets[:, 0] >= start) & (own.offsets[:, 0] < stop) & (own.offsets[:, 1] > 0)
        inside[0] = start == 0
        mean = own.embeddings[inside].mean(axis=0)
        alike(vector, mean / np.linalg.norm(mean))
    alone = embedder.encode(TEXT[8:15])
    assert off(found[1], alone) > VISIBLE  # what surrounds a chunk matters


def test_lists_functions_and_arrays_give_the_same(embedder):
    texts = [TEXT, "a b c d", "q"]
    chunker = embedder.chunker(3)
    spans = [chunker(text) for text in texts]
    found = embedder.encode_chunks(texts, chunker)
    assert [own.shape for own in found] == [(len(one), 15) for one in spans]
    for other in (spans, [np.array(own) for own in spans]):
        for a, b in zip(found, embedder.encode_chunks(texts, other), strict=True):
            alike(a, b)
    alike(embedder.encode_chunks(TEXT, chunker), found[0])


def test_nothing(embedder):
    assert embedder.encode_chunks([], []) == []
    assert embedder.encode_chunks("a", []).shape == (0, 15)
    empty, full = embedder.encode_chunks(["", "a"], embedder.chunker(2))
    assert empty.shape == (0, 15)
    assert full.shape == (1, 15)


def test_the_last_steps_are_those_of_encode(embedder):
    spans = embedder.chunker(4)(TEXT)
    plain = embedder.encode_chunks(TEXT, spans)
    short = embedder.encode_chunks(TEXT, spans, truncate_dim=7, normalize_embeddings=True)
    alike(short, plain[:, :7] / np.linalg.norm(plain[:, :7], axis=1, keepdims=True))
    bits = embedder.encode_chunks([TEXT], [spans], precision="ubinary")
    np.testing.assert_array_equal(bits[0], np.packbits(plain > 0, axis=-1))


def test_the_same_bits_whatever_the_company(tmp_path):
    fixed = Embedder.from_pretrained(folder(tmp_path), deterministic=True)
    chunker = fixed.chunker(3)
    alone = fixed.encode_chunks(TEXT, chunker, max_length=13, overlap=4)
    among = fixed.encode_chunks(
        ["a", TEXT, "b c " * 9], chunker, max_length=13, overlap=4, batch_size=2
    )
    assert alone.tobytes() == among[1].tobytes()


# --- windows -----------------------------------------------------------------------------------


def test_a_text_within_the_maximum_is_not_cut(embedder):
    most = embedder.count_tokens(TEXT)
    spans = embedder.chunker(5)(TEXT)
    alike(
        embedder.encode_chunks(TEXT, spans, max_length=most),
        embedder.encode_chunks(TEXT, spans),
    )
    cut = embedder.encode_chunks(TEXT, spans, max_length=most - 1, overlap=3)
    assert off(cut, embedder.encode_chunks(TEXT, spans)) > VISIBLE


def test_states_in_windows_are_those_of_the_window_in_which_they_are_deepest(embedder):
    text, prompt = "a b c d e f g h i j k l m n o p q", "y z "
    vectors = embedder.encode_chunks(
        text, embedder.chunker(1), prompt=prompt, max_length=11, overlap=3
    )
    # Room for 7 of 17 words beside 2 special tokens and 2 of the prompt; steps of 4.
    stretches = [(0, 7), (4, 11), (8, 15), (10, 17)]
    owner = [0] * 6 + [1] * 4 + [2] * 3 + [3] * 4
    words = text.split()
    for word in range(1, 16):
        begin, stop = stretches[owner[word]]
        own = embedder.encode_tokens(" ".join(words[begin:stop]), prompt=prompt)
        state = own.embeddings[3 + word - begin]
        alike(vectors[word], state / np.linalg.norm(state))


@settings(max_examples=200)
@given(
    own=st.integers(0, 60),
    before=st.integers(0, 4),
    after=st.integers(0, 3),
    room=st.integers(1, 30),
    data=st.data(),
)
def test_windows_cover_every_token_once_and_none_is_too_long(own, before, after, room, data):
    overlap = data.draw(st.integers(0, room - 1))
    total = before + own + after
    special = np.array([True] * before + [False] * own + [True] * after, bool)
    offsets = np.array([(max(i, 0), i + 1) for i in range(-before, own + after)]).reshape(-1, 2)
    offsets[special] = 0
    parts = TokenSpans.of(Tokens(np.arange(total), offsets.astype(np.int32), special), 0)
    into = np.full((total, 1), -1)
    found = list(token_windows(parts, before + room + after, overlap))
    for window in found:
        assert len(window.ids) <= before + room + after
        window.copy_states(window.ids[:, None], into)
    if own:
        np.testing.assert_array_equal(into[:, 0], np.arange(total))
    for a, b in itertools.pairwise(found):
        assert a.keep[1] == b.keep[0]
        assert a.stop - b.first >= overlap


def test_an_overlap_that_fills_the_window(embedder):
    with pytest.raises(InputError, match="overlap is 9, but a window of 11 tokens has room for 9"):
        embedder.encode_chunks(TEXT, embedder.chunker(2), max_length=11, overlap=9)


# --- spans -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([(0, 99)], "outside the text, which has 37"),
        ([(-1, 3)], "outside the text"),
        ([(3, 3)], "is empty"),
        ([(5, 3)], "is empty"),
        ([(0, 5), (2, 4)], "chunk 1 of text 0, characters 2 to 4, does not begin and end behind"),
        ([(4, 9), (0, 5)], "does not begin and end behind"),
        ([(0, 5), (0, 7)], "does not begin and end behind"),
        ([(0, 3, 5)], "no pair"),
        ([(1, 3)], "text 0 has no token that begins in its chunk 0, characters 1 to 3"),
        ([(0, 3), (3, 4)], "text 0 has no token that begins in its chunk 1, characters 3 to 4"),
    ],
)
def test_wrong_spans(embedder, spans, reason):
    with pytest.raises(InputError, match=reason):
        embedder.encode_chunks(TEXT, spans)


@pytest.mark.parametrize("spans", [[("a", "b")], [1, 2], ["ab"], [(0.0, 3.0)], [None]])
def test_spans_of_other_types(embedder, spans):
    with pytest.raises(InputTypeError, match="pairs of integers"):
        embedder.encode_chunks(TEXT, spans)


def test_lists_of_spans_that_do_not_fit_the_texts(embedder):
    with pytest.raises(InputError, match="2 texts, but 1 lists"):
        embedder.encode_chunks(["a", "b"], [[(0, 1)]])
    for chunks in ("ab", {"a": 1}, 3):
        with pytest.raises(InputTypeError, match="pass a list of spans"):
            embedder.encode_chunks(["a", "b"], chunks)


@given(length=st.integers(1, 50), data=st.data())
def test_good_spans_are_kept(length, data):
    starts = sorted(data.draw(st.sets(st.integers(0, length - 1))))
    ends = [*starts[1:], length]
    spans = list(zip(starts, ends, strict=True)) if starts else []
    assert checked_spans(0, length, spans).tolist() == [list(span) for span in spans]


def test_spans_of_tokens_follow_each_other():
    offsets = [(0, 0), (1, 3), (4, 5), (4, 5), (6, 9), (9, 10), (0, 0)]
    special = np.array([True, *[False] * 5, True])
    tokens = Tokens(np.zeros(7, np.int32), np.array(offsets, np.int32), special)
    assert of_tokens(tokens, 2) == [(0, 4), (4, 9), (9, 10)]
    assert of_tokens(tokens, 3) == [(0, 6), (6, 10)]
    assert of_tokens(tokens, 9) == [(0, 10)]
