"""top_k against a full sort of all scores, in any pieces, with ties, and in fewer bits."""

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxbert import Ranges, quantize_embeddings
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.similarity import similarity, unit_length
from jaxbert.search import Bits, Bytes, Search, comparing, host, searching, top_k
from tests.search.memory import traced
from tests.tolerances import FUNCTION

# Pieces of 8 rows, and no queries together with others: several of both.
SMALL = searching.memory(8, 8, 13, 17)


def whole(n, d=13, seed=0, high=3):
    """Vectors of small whole numbers: their products are exact, and many scores are equal."""
    return np.random.default_rng(seed).integers(-high, high + 1, (n, d)).astype(np.float32)


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """Where the products are computed."""
    monkeypatch.setattr(searching, "on_host", lambda *given: request.param == "host")


def sorted_all(scores, k):
    """The answer of a full sort, of equal scores the lower index first."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.mark.parametrize("kind", ["dot", "manhattan"])
@pytest.mark.parametrize("budget", [SMALL, searching.BUDGET])
def test_exact_scores_give_the_answer_of_a_full_sort_ties_by_the_lower_index(kind, budget, place):
    queries, corpus = whole(11, seed=1), whole(101)
    scores, rows = top_k(queries, corpus, 17, similarity=kind, budget=budget)
    expected, order = sorted_all(similarity(queries, corpus, kind), 17)
    assert len(np.unique(expected[0])) < 17, "the test needs ties"
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, expected)
    assert scores.dtype == np.float32
    assert rows.dtype == np.int64


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_rounded_scores_are_those_of_a_full_sort(kind, place):
    random = np.random.default_rng(2)
    queries, corpus = random.normal(size=(5, 13)), random.normal(size=(211, 13))
    scores, rows = top_k(queries, corpus, 7, similarity=kind, budget=SMALL)
    full = similarity(queries, corpus, kind)
    scale = np.abs(full).max()
    expected, _ = sorted_all(full, 7)
    assert np.abs(scores - expected).max() < FUNCTION * scale
    assert np.abs(scores - np.take_along_axis(full, rows, axis=1)).max() < FUNCTION * scale
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 7 for row in rows.tolist())


@settings(max_examples=20)
@given(
    st.integers(5, 23),
    st.integers(0, 37),
    st.sampled_from([1, 5, 37]),
    st.integers(0, 99),
    st.booleans(),
)
def test_any_sizes(q, n, k, seed, on_host):
    queries, corpus = whole(q, seed=seed), whole(n, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "on_host", lambda *given: on_host)
        scores, rows = top_k(queries, corpus, k, similarity="dot", budget=SMALL)
    expected, order = sorted_all(queries @ corpus.T, k)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, expected)
    assert scores.shape == (q, min(k, n))


def test_one_query_and_a_file_that_is_not_read_at_once(tmp_path, place):
    corpus = whole(53)
    np.save(tmp_path / "corpus.npy", corpus.astype(np.float16))
    mapped = np.load(tmp_path / "corpus.npy", mmap_mode="r")
    scores, rows = top_k(corpus[7], mapped, 3, similarity="dot", budget=SMALL)
    expected, order = sorted_all(corpus[7:8] @ corpus.T, 3)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16, np.int8])
def test_dtypes_that_hold_the_same_numbers_give_the_same_answer(dtype, place):
    queries, corpus = whole(5, seed=1), whole(67)
    expected = top_k(queries, corpus, 5)
    found = top_k(queries.astype(dtype), corpus.astype(dtype), 5)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("queries", [3, host.FEW, 100, 1031])
@pytest.mark.parametrize("budget", [SMALL, searching.BUDGET])
def test_the_host_has_the_answer_of_the_device(kind, queries, budget, monkeypatch):
    """Exact products, so that all scores are equal in bits but for a cosine's roots."""
    asked, corpus = whole(queries, seed=1), whole(101)
    corpus[[3, 50, 51]] = 0.0
    corpus[60:] *= np.float32(2.0**50)  # squares beyond float32
    found = []
    for device in (True, False):
        monkeypatch.setattr(searching, "on_host", lambda *given, host=not device: host)
        found.append(top_k(asked, corpus, 17, similarity=kind, budget=budget))
    scale = np.abs(found[0][0]).max()
    assert np.abs(found[0][0] - found[1][0]).max() <= FUNCTION * scale
    if kind == "dot":
        np.testing.assert_array_equal(found[0][0], found[1][0])
        np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("queries", [1, 2, host.FEW, host.FEW + 1, 257, 1031])
def test_equal_rows_have_equal_scores_wherever_they_stand(kind, queries):
    random = np.random.default_rng(queries)
    for n in (50, 101, 9001):
        corpus = np.tile(random.normal(size=(1, 384)).astype(np.float32), (n, 1))
        asked = random.normal(size=(queries, 384)).astype(np.float32)
        _, rows = top_k(asked, corpus, 7, similarity=kind)
        np.testing.assert_array_equal(rows, np.tile(np.arange(7), (queries, 1)))


@pytest.mark.parametrize("kind", ["cosine", "dot"])
def test_equal_rows_have_equal_scores_when_they_are_compared_again(kind):
    random = np.random.default_rng(0)
    for n in (5, 37, 53):
        corpus = np.tile(random.normal(size=(1, 768)).astype(np.float32), (n, 1))
        asked = random.normal(size=(11, 768)).astype(np.float32)
        scores, rows = top_k(asked, corpus, n, similarity=kind, rescore=corpus, oversample=1)
        np.testing.assert_array_equal(rows, np.tile(np.arange(n), (11, 1)))
        assert (scores == scores[:, :1]).all()


def test_the_score_of_a_row_does_not_depend_on_a_huge_one_beside_it():
    random = np.random.default_rng(0)
    corpus = np.tile(random.normal(size=(1, 384)).astype(np.float32), (2 * host.PIECES[4], 1))
    corpus[host.PIECES[4] + 5] = -1e30 * corpus[0]  # in the second piece alone, and last of all
    for query in random.normal(size=(5, 384)).astype(np.float32):
        query *= np.sign(query @ corpus[0])
        _, rows = top_k(query, corpus, 7)
        np.testing.assert_array_equal(rows, [np.arange(7)])


def test_no_queries_have_no_answers():
    bits = Bits(np.zeros((11, 13), np.uint8))
    for queries, corpus in ((whole(0), whole(11)), (np.zeros((0, 13), np.uint8), bits)):
        scores, rows = top_k(queries, corpus, 5)
        assert scores.shape == rows.shape == (0, 5)


def test_a_search_is_on_the_host_for_few_queries_or_where_jax_computes_there(monkeypatch):
    monkeypatch.setattr(searching, "rounds_alike", lambda queries, width: True)
    asked = whole(host.FEW + 1)
    assert isinstance(searching.search_for(asked, "dot", 3), host.HostSearch)
    assert isinstance(searching.search_for(asked, "dot", 3, SMALL), host.HostSearch)
    assert isinstance(searching.search_for(asked[1:], "euclidean", 3), searching.Search)
    monkeypatch.setattr(searching, "backend", lambda: "gpu")
    assert isinstance(searching.search_for(asked, "dot", 3), searching.Search)
    assert isinstance(searching.search_for(asked[1:], "cosine", 3), host.HostSearch)
    monkeypatch.setattr(searching, "rounds_alike", lambda queries, width: queries < host.FEW)
    assert isinstance(searching.search_for(asked[:4], "cosine", 3), host.HostSearch)
    assert isinstance(searching.search_for(asked[:5], "cosine", 3), searching.Search)


@pytest.mark.parametrize("k", [1, 7, 200])
@pytest.mark.parametrize("queries", [2, 300])
def test_pieces_that_end_anywhere_change_nothing(k, queries):
    asked, corpus = whole(queries, seed=1), whole(131)
    expected = sorted_all(asked @ corpus.T, k)
    search = host.HostSearch(asked, "dot", k, 128, 16, 2**16)
    for start, stop in ((0, 3), (3, 4), (4, 40), (40, 131)):
        search.look(corpus[start:stop])
    for a, b in zip(search.result(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rising", [False, True])
@pytest.mark.parametrize("spare", [2**14, 2**26])
def test_blocks_of_rows_change_nothing(rising, spare):
    """Many queries, whose rows are looked at together; also where each piece is better."""
    asked, corpus = whole(61, seed=1), whole(2003)
    if rising:
        corpus[:, 0] = np.arange(len(corpus)) // 5
        asked[:, 0] = 3.0
    search = host.HostSearch(asked, "dot", 7, 64, 512, spare)
    assert search.together == host.TOGETHER
    search.look(corpus)
    for a, b in zip(search.result(), sorted_all(asked @ corpus.T, 7), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("width", [13, 389])  # fewer than the queries, and more
def test_cosines_that_rounding_puts_beyond_one_are_one(width):
    random = np.random.default_rng(0)
    asked = random.normal(size=(61, width)).astype(np.float32)
    corpus = random.permutation(np.concatenate([asked * np.float32(i) for i in range(1, 20)]))
    raw = host.cosines(unit_length(asked), corpus)
    assert raw.max() > 1.0, "the test needs such cosines"
    search = host.HostSearch(asked, "cosine", 7, 64, 2048, 2**26)
    assert search.together == host.TOGETHER
    search.look(corpus)
    expected = sorted_all(np.clip(raw[: len(corpus)].T, -1.0, 1.0), 7)
    for a, b in zip(search.result(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("queries", [3, 300])
@pytest.mark.parametrize("kind", ["cosine", "dot"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_its_row(queries, kind, value):
    corpus = whole(67)
    corpus[41, 5] = value
    with pytest.raises(InputError, match="row 41 of the corpus has a score that is not finite"):
        top_k(whole(queries, seed=1) + 0.5, corpus, 3, similarity=kind)


def test_zero_and_minus_zero_are_equal_scores(place):
    corpus = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    scores, rows = top_k(np.array([-0.0, 0.0], np.float32), corpus, 3, similarity="dot")
    np.testing.assert_array_equal(rows, [[0, 1, 2]])
    assert not scores.any()


def test_a_zero_vector_is_like_nothing(place):
    scores, rows = top_k(whole(2), np.zeros((3, 13), np.float32), 2)
    np.testing.assert_array_equal(rows, [[0, 1], [0, 1]])
    assert not scores.any()


@pytest.mark.parametrize(("q", "k"), [(1031, 7), (1031, 1009), (1031, 4099)])
def test_the_host_stays_within_the_budget_also_where_all_rows_are_better(q, k, monkeypatch):
    """Beside the queries and the answers, which are there twice when they are handed out."""
    monkeypatch.setattr(searching, "on_host", lambda *given: True)
    random = np.random.default_rng(0)
    corpus = np.sort(np.abs(random.normal(size=(9001, 61)).astype(np.float32)), axis=0)
    queries = np.abs(random.normal(size=(q, 61)).astype(np.float32))
    budget = 2**26
    (_, rows), most = traced(lambda: top_k(queries, corpus, k, similarity="dot", budget=budget))
    np.testing.assert_array_equal(rows[:, 0], 9000)
    assert most < budget + queries.nbytes + 2 * 12 * q * k


def test_what_a_piece_its_scores_and_the_answers_need_is_within_the_budget():
    for queries in (1, 5, 1024, 10**6):
        for width in (1, 13, 4096):
            for budget in (2**20, 2**27, 2**40):
                for k in (0, 7, 1009, 8191):
                    q, c = searching.sizes(queries, width, budget, k=k)
                    assert searching.memory(q, c, width, k) <= budget
                    assert q & (q - 1) == c & (c - 1) == 0
    words = "budget is 1000 bytes, and vectors of width 4096 need .* for 5 answers"
    with pytest.raises(InputError, match=words):
        searching.sizes(3, 4096, 1000, k=5)


def test_many_answers_leave_room_for_fewer_queries_before_pieces_are_short():
    few, many = (searching.sizes(1024, 384, searching.BUDGET, k=k) for k in (10, 10**5))
    assert few == (1024, 4096)
    assert many[0] < few[0]
    assert many[1] == few[1]
    assert searching.sizes(1024, 384, searching.BUDGET, k=4 * 10**6)[0] == 1


@pytest.mark.parametrize("kind", ["dot", "euclidean", "bits"])
@pytest.mark.parametrize(
    ("queries", "piece", "k"), [(61, 509, 7), (61, 509, 1009), (8, 8, 4099), (13, 2039, 101)]
)
def test_the_memory_of_a_step_is_what_xla_says_or_more(kind, queries, piece, k):
    """Arguments, the answer and what is between: k beyond a piece's rows, and less."""
    width = 53
    shape, of = jax.ShapeDtypeStruct, np.uint8 if kind == "bits" else np.float32
    found = shape((queries, k), np.float32), shape((queries, k), np.int32)
    vectors = [shape((n, width), of) for n in (queries, piece)]
    numbers = [shape((), np.int32)] * 2
    step = comparing._merge.lower(kind, found, *vectors, *numbers).compile().memory_analysis()
    sizes = step.argument_size_in_bytes, step.output_size_in_bytes, step.temp_size_in_bytes
    pair = searching.PAIR + (searching.DIFFERING * width if kind == "bits" else 0)
    assert sum(sizes) <= searching.memory(queries, piece, width, k, pair)
    if kind != "bits":  # whose differing bits take more than all answers do here
        without = searching.memory(queries, piece, width, 0)
        assert (sum(sizes) > without) == (k > 1000), "the answers are what makes the difference"


@pytest.mark.parametrize("k", [17, 4099])
def test_a_search_on_the_device_counts_its_answers(k):
    search = Search(whole(1031), "dot", k, budget=2**22)
    assert searching.memory(search.at_once, search.rows, 13, k) <= 2**22
    assert all(scores.shape == (search.at_once, k) for scores, _ in search.found)
    queries, corpus = whole(11, seed=1), whole(131)
    found = top_k(queries, corpus, k, similarity="manhattan", budget=2**22)
    expected = sorted_all(similarity(queries, corpus, "manhattan"), k)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


# --- fewer bits ----------------------------------------------------------------------------------


def embedded(n, seed):
    """Unit vectors of two groups."""
    x = np.random.default_rng(seed).normal(size=(n, 24)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_bytes_are_read_back_as_the_middle_of_their_step(precision):
    corpus, queries = embedded(151, 3), embedded(5, 4)
    ranges = Ranges.of(corpus)
    stored = quantize_embeddings(corpus, precision, ranges)
    level = stored.astype(np.float64) + (128 if precision == "int8" else 0) + 0.5
    back = ranges.low + level * (ranges.high - ranges.low) / 255
    # Values at the upper end of a range are half a step beyond it.
    assert np.abs(back - corpus).max() < 1.01 * ((ranges.high - ranges.low) / 255).max()
    scores, _ = top_k(queries, Bytes(stored, ranges), 7, similarity="dot")
    expected, _ = sorted_all(queries @ back.T, 7)
    assert np.abs(scores - expected).max() < FUNCTION


@pytest.mark.parametrize("precision", ["ubinary", "binary"])
def test_bits_are_compared_by_their_signs(precision):
    corpus, queries = embedded(97, 5), embedded(7, 6)
    signs = [np.where(x > 0, 1.0, -1.0) for x in (queries, corpus)]
    expected, order = sorted_all(signs[0] @ signs[1].T, 11)
    stored = quantize_embeddings(corpus, precision)
    for asked in (queries, quantize_embeddings(queries, precision)):
        for times in (1, 7):  # few are compared by their differing bits, many by products
            scores, rows = top_k(np.tile(asked, (times, 1)), Bits(stored), 11)
            np.testing.assert_array_equal(rows, np.tile(order, (times, 1)))
            np.testing.assert_array_equal(scores, np.tile(expected, (times, 1)))


@pytest.mark.parametrize("queries", [5, host.FEW + 5])
def test_bits_that_only_fill_a_byte_do_not_count(queries):
    """21 features are 3 bytes, and the last 3 bits of these are 0 in all vectors."""
    corpus, asked = embedded(97, 5)[:, :21], embedded(queries, 6)[:, :21]
    signs = [np.where(x > 0, 1.0, -1.0) for x in (asked, corpus)]
    expected, order = sorted_all(signs[0] @ signs[1].T, 11)
    stored, bits = (quantize_embeddings(x, "ubinary") for x in (corpus, asked))
    for query, own in (
        (asked, Bits(stored)),
        (asked, Bits(stored, features=21)),
        (bits, Bits(stored, features=21)),
    ):
        scores, rows = top_k(query, own, 11)
        np.testing.assert_array_equal(rows, order)
        np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(top_k(bits, Bits(stored), 11)[0], expected + 3)
    for features in (16, 25, 0):
        with pytest.raises(InputError):
            Bits(stored, features=features)
    with pytest.raises(InputError, match="queries of width 22"):
        top_k(embedded(1, 1)[:, :22], Bits(stored, features=21), 1)


def test_rescoring_gives_exact_scores_and_with_all_candidates_the_exact_answer():
    corpus, queries = embedded(131, 7), embedded(5, 8)
    bits = Bits(quantize_embeddings(corpus, "ubinary"))
    exact = top_k(queries, corpus, 5)
    scores, rows = top_k(queries, bits, 5, rescore=corpus, oversample=3)
    full = similarity(queries, corpus, "cosine")
    assert np.abs(scores - np.take_along_axis(full, rows, axis=1)).max() < FUNCTION
    assert (np.diff(scores, axis=1) <= 0).all()
    scores, rows = top_k(queries, bits, 5, rescore=corpus, oversample=131)
    np.testing.assert_array_equal(rows, exact[1])
    assert np.abs(scores - exact[0]).max() < FUNCTION


# --- refusals ------------------------------------------------------------------------------------

BROKEN = np.where(np.arange(39).reshape(3, 13) == 20, np.nan, 1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((BROKEN, whole(5), 1), InputError, "row 1 of queries holds a number that is not finite"),
        ((whole(5), BROKEN, 1), InputError, "row 1 of the corpus has a score that is not finite"),
        ((whole(5), whole(5, 11), 1), InputError, "width 13 and a corpus of width 11"),
        ((whole(5), whole(5), 0), InputError, "k is 0"),
        ((whole(5), whole(5), 1.5), InputTypeError, "k is a float"),
        (("text", whole(5), 1), InputTypeError, "queries has dtype"),
        ((np.zeros((1, 2, 3)), whole(5), 1), InputError, "queries has shape"),
        ((whole(2) * 1e30, whole(5) * 1e30, 1), InputError, "numbers of 1e19 and more"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(arguments, error, words):
    with pytest.raises(error, match=words):
        top_k(*arguments, similarity="dot")


def test_a_search_of_ones_own_checks_what_it_is_given():
    corpus, queries = whole(53), whole(3, seed=1)
    search = Search(queries.astype(np.float64), "dot", 5)
    for piece in (corpus[:17].astype(np.float16), corpus[17:].tolist()):
        search.look(piece)
    for found, expected in zip(search.result(), sorted_all(queries @ corpus.T, 5), strict=True):
        np.testing.assert_array_equal(found, expected)
    bits = quantize_embeddings(embedded(7, 1), "ubinary")
    for arguments, error, words in (
        ((BROKEN, "dot", 3), InputError, "row 1 of queries holds"),
        ((queries, "cosin", 3), InputError, "kind is 'cosin'"),
        ((queries, "bits, by products", 3), InputError, "kind is 'bits, by products'"),
        ((queries, "bits", 3), InputTypeError, "queries are float32, and packed bits are uint8"),
        ((queries, "dot", 0), InputError, "k is 0"),
        ((queries, "dot", 3, 0.5), InputTypeError, "budget is a float"),
        (("text", "dot", 3), InputTypeError, "queries has dtype"),
    ):
        with pytest.raises(error, match=words):
            Search(*arguments)
    with pytest.raises(InputError, match="queries of width 13 and a corpus of width 11"):
        search.look(whole(5, 11))
    with pytest.raises(InputTypeError, match="piece are float32"):
        Search(bits, "bits", 3).look(embedded(5, 1)[:, :3])


def test_refusals_of_stored_vectors():
    with pytest.raises(InputTypeError, match="packed bits are uint8 or int8, not float32"):
        Bits(whole(3))
    with pytest.raises(InputTypeError, match="bytes are int8 or uint8, not float32"):
        Bytes(whole(3), np.zeros((2, 13)))
    with pytest.raises(InputError, match="queries of width 3 and a corpus of width 2"):
        top_k(embedded(1, 1), Bits(np.zeros((5, 2), np.uint8)), 1)
    with pytest.raises(InputError, match="rescore has 4 vectors, and the corpus 5"):
        top_k(whole(1), whole(5), 1, rescore=whole(4))
    with pytest.raises(InputError, match="similarity is 'maxsim'"):
        top_k(whole(1), whole(5), 1, similarity="maxsim")


@pytest.mark.parametrize(("queries", "width", "rows"), [(3, 384, 8256), (5, 128, 4160)])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_equal_rows_are_equal_in_a_short_last_piece_too(queries, width, rows, similarity):
    """OpenBLAS multiplies few rows by few queries with another kernel, which rounds otherwise."""
    random = np.random.default_rng(0)
    corpus = np.repeat(random.normal(size=(1, width)).astype(np.float32), rows, axis=0)
    asked = random.normal(size=(5 * queries, width)).astype(np.float32)
    for some in np.split(asked, 5):
        _, found = top_k(some, corpus, 5, similarity=similarity)
        np.testing.assert_array_equal(found, np.tile(np.arange(5), (queries, 1)))
