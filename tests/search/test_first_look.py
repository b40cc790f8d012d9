"""The first look in bfloat16: its bound on errors, and answers that are those of a full sort."""

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from jaxbert import Ranges, quantize_embeddings
from jaxbert.errors import InputError
from jaxbert.inference.similarity import similarity, unit_length
from jaxbert.search import Bytes, first_look, searching, top_k
from jaxbert.search.first_look import FirstLook
from jaxbert.search.stored import Floats
from tests.search.memory import traced
from tests.search.test_searching import sorted_all, whole
from tests.tolerances import FUNCTION

K, SPARE = 7, 2**24


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Every search has a first look, where there is room for one; which queries were sure."""
    monkeypatch.setattr(first_look, "multiplies_bfloat16", lambda: True)
    for name in ("MANY", "WIDE", "WORTH"):
        monkeypatch.setattr(first_look, name, 1)
    monkeypatch.setattr(searching, "backend", lambda: "cpu")
    sure, answers = [], FirstLook.answers

    def noted(*arguments):
        found = answers(*arguments)
        sure.append(found[2])
        return found

    monkeypatch.setattr(FirstLook, "answers", noted)
    return sure


def normal(n, width, seed):
    """Random vectors."""
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def lossy(n, width, seed):
    """Vectors of nearly one direction, each component rounded down by nearly all that can be."""
    twice = np.random.default_rng(seed).random((n, width)) < 0.03
    return np.where(twice, 2, 1) * np.float32(1.0 + 2.0**-8 - 2.0**-20)


def representable(n, width, seed):
    """Vectors that lose nothing; only sums are rounded."""
    return normal(n, width, seed).astype(ml_dtypes.bfloat16).astype(np.float32)


def seen(queries, corpus, kind, rows=512):
    """A search that has seen a corpus."""
    look = FirstLook(queries, kind, min(K, len(corpus)), 64, rows, SPARE)
    look.look(corpus)
    look.finish()
    return look


@pytest.mark.parametrize("vectors", [normal, lossy, representable])
@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_no_score_is_above_that_of_the_first_look_by_more_than_the_bound(kind, vectors):
    queries, corpus = vectors(67, 389, 1), vectors(1009, 389, 2)
    corpus[::3] *= 2.0
    look = seen(queries, corpus, kind)
    numbers = similarity(queries, corpus, kind).astype(float)
    rounded = look.kept.scores[:67].astype(float)
    over = np.take_along_axis(numbers, look.kept.rows[:67], axis=1) - rounded
    share = np.abs(over).max() / look.errors().max()
    assert share < 1.0
    if vectors is lossy and kind == "dot":  # to make a length one rounds otherwise
        assert share > 0.9, "the bound is not much larger than what can be"


@pytest.mark.parametrize("k", [1, K, 61])
@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_answers_are_those_of_a_full_sort(kind, k, looks):
    queries, corpus = normal(307, 61, 3), normal(4099, 61, 4)  # of three rows in the last piece
    scores, rows = top_k(queries, corpus, k, similarity=kind)
    expected, order = sorted_all(similarity(queries, corpus, kind), k)
    np.testing.assert_array_equal(rows, order)
    assert np.abs(scores - expected).max() < FUNCTION * np.abs(expected).max()
    assert looks[0].mean() > 0.95, "so few queries are searched again that time is won"


def test_of_equal_scores_the_lower_row_also_where_the_first_look_cannot_tell(looks):
    queries, corpus = whole(307, seed=1, high=1), whole(4099, high=1)
    scores, rows = top_k(queries, corpus, K, similarity="dot")
    expected, order = sorted_all(queries @ corpus.T, K)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, expected)
    assert not looks[0].all(), "the test needs queries that are searched again"


def test_of_equal_scores_the_lower_row_also_where_the_first_look_prefers_another(looks):
    queries, corpus = np.zeros((307, 13), np.float32), normal(4099, 13, 17) / 64
    queries[:, :2] = 1.0
    corpus[[3, 2, 1], :2] = [1 + 3 * 2.0**-9, 1 - 2.0**-8], [1 + 2.0**-9, 1.0], [0.5, 0.5]
    look = seen(queries, corpus, "dot")
    np.testing.assert_array_equal(look.kept.rows[0, :3], [3, 2, 1])
    scores, rows = top_k(queries, corpus, 2, similarity="dot")
    assert (scores == np.float32(2 + 2.0**-9)).all()
    np.testing.assert_array_equal(rows, [[2, 3]] * 307)
    assert looks[0].all()


def test_where_queries_are_too_long_for_float32_all_are_searched_again(looks):
    queries, corpus = normal(307, 61, 22), normal(4099, 61, 23)
    queries[0] = 3.4e38
    with pytest.raises(InputError, match="a score that is not finite in float32"):
        top_k(queries, corpus, K, similarity="dot")
    assert not looks[0][0]
    assert looks[0].mean() > 0.9


def test_nothing_is_known_of_queries_whose_squares_leave_float32():
    queries = normal(4, 61, 18) * np.float32([[1.0], [0.0], [2.0**-76], [2.0**70]])
    look = seen(queries, normal(1009, 61, 19), "dot")
    np.testing.assert_array_equal(np.isinf(look.errors()), [False, True, True, True])


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("twice", [2, 4099])
def test_equal_rows_have_equal_scores(kind, twice, looks):
    """Pairs of equal rows that stand apart, of which the first look is sure, and all rows equal."""
    corpus = np.tile(normal(-(-4099 // twice), 61, 5), (twice, 1))[:4099]
    queries = normal(307, 61, 6)
    _, rows = top_k(queries, corpus, 8, similarity=kind)
    if twice == 2:
        assert looks[0].mean() > 0.9
        np.testing.assert_array_equal(rows[:, 1::2], rows[:, ::2] + 2050)
    else:
        assert not looks[0].any()
        np.testing.assert_array_equal(rows, np.tile(np.arange(8), (307, 1)))


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_a_first_look_changes_nothing_for_vectors_of_any_length(kind, monkeypatch, looks):
    queries, corpus = normal(307, 61, 7), normal(4099, 61, 8)
    corpus[[5, 2050]] = 0.0
    corpus[::7] *= np.float32(2.0**50)  # squares beyond float32
    corpus[::11] *= np.float32(2.0**-60)
    queries[:2] *= np.float32([[0.0], [2.0**-60]])
    found = top_k(queries, corpus, K, similarity=kind)
    monkeypatch.setattr(first_look, "WORTH", 2**60)
    expected = top_k(queries, corpus, K, similarity=kind)
    np.testing.assert_array_equal(found[1], expected[1])
    difference = np.abs(found[0] - expected[0]).max(axis=1)
    assert (difference <= FUNCTION * np.abs(expected[0]).max(axis=1)).all()
    (sure,) = looks
    assert not sure[0]
    assert sure.any() == (kind == "cosine")  # dot products of these are too large


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_its_row(kind, value, looks):
    corpus = normal(4099, 61, 9)
    corpus[3041, 5] = value
    words = "row 3041 of the corpus has a score that is not finite"
    with pytest.raises(InputError, match=words):
        top_k(normal(307, 61, 10), corpus, K, similarity=kind)
    assert not looks[0].any()


def test_cosines_that_rounding_puts_beyond_one_are_one():
    asked = normal(61, 13, 0)
    corpus = np.concatenate([asked * np.float32(i) for i in range(1, 20)])
    look = FirstLook(asked, "cosine", 19, 64, 512, SPARE)
    found = look.again(look.queries, np.tile(corpus[:61], (1, 3)).reshape(-1, 13))
    vectors = unit_length(asked)
    raw = np.einsum("nd,nd->n", vectors, asked) / np.sqrt(np.einsum("nd,nd->n", asked, asked))
    assert raw.max() > 1.0, "the test needs such cosines"
    np.testing.assert_array_equal(found, np.tile(np.minimum(raw, 1.0)[:, None], (1, 3)))


def test_pieces_that_end_anywhere_and_blocks_of_queries_change_nothing():
    queries, corpus = normal(131, 61, 11), normal(2003, 61, 12)
    look = FirstLook(queries, "dot", first_look.kept_for(K), 64, 512, SPARE)
    assert len(look.blocks) == 3
    for start, stop in ((0, 3), (3, 4), (4, 1040), (1040, 2003)):
        look.look(corpus[start:stop])
    scores, rows, sure = look.answers(Floats(corpus), K)
    expected, order = sorted_all(queries @ corpus.T, K)
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(rows[sure], order[sure])
    assert np.abs(scores - expected)[sure].max() < FUNCTION * np.abs(expected).max()


def test_bytes_are_looked_at_as_the_floats_that_they_are(looks):
    corpus, queries = unit_length(normal(4099, 61, 13)), unit_length(normal(307, 61, 14))
    ranges = Ranges.of(corpus)
    stored = Bytes(quantize_embeddings(corpus, "int8", ranges), ranges)
    _, rows = top_k(queries, stored, K)
    _, order = sorted_all(similarity(queries, stored.piece(0, 4099), "cosine"), K)
    np.testing.assert_array_equal(rows, order)
    assert looks[0].mean() > 0.95


@pytest.mark.parametrize("q", [1031, 307])
def test_memory_is_within_the_budget_also_where_all_rows_are_better(q, looks):
    """What NumPy takes, beside the queries and the answers; scores of the device come to that."""
    corpus, queries = np.sort(np.abs(normal(9001, 61, 15)), axis=0), np.abs(normal(q, 61, 16))
    budget = 2**26
    (_, found), most = traced(lambda: top_k(queries, corpus, K, similarity="dot", budget=budget))
    np.testing.assert_array_equal(found[:, 0], 9000)
    assert len(looks) == 1
    assert (
        most + (first_look.AHEAD + 1) * 4 * 1024 * first_look.ROWS
        < budget + 4 * queries.nbytes + 4 * 12 * q * K
    )


def test_memory_is_within_the_budget_for_more_queries_than_are_compared_at_once(looks):
    """A block of them is rounded at a time; all are only kept, in bfloat16."""
    corpus, queries = normal(4099, 257, 22), normal(20011, 257, 23)
    budget = 2**24
    (scores, rows), most = traced(
        lambda: top_k(queries, corpus, 3, similarity="dot", budget=budget)
    )
    assert len(looks) == 1
    assert most < budget + queries.nbytes // 2 + 4 * (scores.nbytes + rows.nbytes)


def test_memory_is_within_the_budget_where_many_wide_rows_are_read_again(looks):
    corpus, queries = normal(2053, 4099, 20), normal(257, 4099, 21)
    corpus[::2] *= np.float32(2.0**50)  # whose lengths are computed otherwise, with memory
    # The least budget with which there is a first look.
    budget = searching.memory(64, 2048, 4099, pair=searching.LOOK)
    _, most = traced(lambda: top_k(queries, corpus, 34, budget=budget))
    assert len(looks) == 1
    assert most < budget + 4 * queries.nbytes


def test_a_first_look_is_for_many_queries_and_rows_where_there_is_room(monkeypatch):
    for name, least in (("MANY", 307), ("WIDE", 13), ("WORTH", 307 * 4099 * 13)):
        monkeypatch.setattr(first_look, name, least)
    queries, corpus = whole(307), Floats(whole(4099))
    least = searching.memory(64, first_look.ROWS, 13, pair=searching.LOOK)
    assert searching.first_look_for(queries, corpus, "dot", K) is not None
    for given in (
        (queries[:306], Floats(whole(9001)), "dot", K),
        (queries[:, :12], Floats(whole(9001, 12)), "dot", K),
        (queries, Floats(whole(4098)), "dot", K),
        (queries, corpus, "euclidean", K),
        (queries, corpus, "bits", K),
        (queries, corpus, "cosine", 78),
        (queries, corpus, "dot", K, 1),
        (queries, corpus, "dot", K, least - 1),
    ):
        assert searching.first_look_for(*given) is None
    for budget, k, blocks, size, rows in (
        (2**27, K, 1, 320, 1024),
        (2**24, K, 2, 192, 1024),  # of at most 256
        (least, K, 5, 64, 1024),
        (2**27, 14, 1, 320, 2048),
        (2**27, 77, 1, 320, 4096),
    ):
        look = searching.first_look_for(queries, corpus, "dot", k, budget)
        assert [own for own, _ in look.blocks][-1] == slice((blocks - 1) * size, blocks * size)
        assert look.rows == rows
        assert look.spare >= 4 * size * rows
    monkeypatch.setattr(searching, "backend", lambda: "gpu")
    assert searching.first_look_for(queries, corpus, "dot", K) is None
    monkeypatch.setattr(searching, "backend", lambda: "cpu")
    monkeypatch.setattr(first_look, "multiplies_bfloat16", lambda: False)
    assert searching.first_look_for(queries, corpus, "dot", K) is None


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("model name\t: x\nflags\t\t: fpu avx512f avx512_bf16 fsrm\n", True),
        ("model name\t: avx512_bf16\nflags\t\t: fpu avx512f avx512_bf16_not\n", False),
        (None, False),
    ],
)
def test_the_system_tells_whether_the_processor_multiplies_bfloat16(text, has, monkeypatch):
    monkeypatch.undo()

    def read(path):
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert first_look.multiplies_bfloat16.__wrapped__() is has
