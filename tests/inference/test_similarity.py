"""Cosines are cosines: within [-1, 1], of vectors of any length, and without a warning of NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.similarity import similarity, similarity_pairwise, unit_length

KINDS = ("cosine", "dot", "euclidean", "manhattan")


def draw(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def exact(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


def test_an_angle_can_be_taken_of_every_cosine():
    v = draw(500, 384)
    whole = similarity(v, np.concatenate([v, -v]), "cosine")
    pairs = similarity_pairwise(v, v, "cosine")
    assert whole.dtype == pairs.dtype == np.float32
    assert not np.isnan(np.arccos(whole)).any()
    assert not np.isnan(np.arccos(pairs)).any()
    np.testing.assert_allclose(pairs, 1.0, atol=1e-6)


@pytest.mark.parametrize("a", [1e-38, 1e-30, 1e-13, 1e-7, 1.0, 1e7, 1e13, 1e20, 1e37])
@pytest.mark.parametrize("b", [1e-30, 1.0, 1e20])
def test_the_length_of_a_vector_does_not_matter(a, b):
    x, y = draw(7, 31), draw(11, 31)[::-1]
    x[3] /= a  # beside the others one of another length
    cosines = similarity(x * np.float32(a), y * np.float32(b), "cosine")
    # Below 1e-38 float32 itself has fewer digits.
    np.testing.assert_allclose(cosines, exact(x * np.float32(a), y * np.float32(b)), atol=1e-6)
    pairs = similarity_pairwise(x * np.float32(a), y[:7] * np.float32(b), "cosine")
    np.testing.assert_allclose(pairs, np.diag(cosines[:, :7]), atol=1e-6)


def test_a_zero_vector_has_the_cosine_zero():
    x = np.concatenate([np.zeros((1, 5), np.float32), draw(2, 5)])
    assert not similarity(x, x, "cosine")[0].any()
    assert similarity_pairwise(x, x, "cosine")[0] == 0.0
    assert not unit_length(x)[0].any()
    assert similarity(np.zeros((0, 5)), x, "cosine").shape == (0, 3)
    assert similarity_pairwise(np.zeros((0, 5)), np.zeros((0, 5)), "cosine").shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
def test_what_float32_cannot_hold_is_infinite_without_a_warning(kind):
    x = np.full((2, 3), 3e38, np.float32)
    for cosines in (similarity(x, -x, kind)[0], similarity_pairwise(x, -x, kind)):
        np.testing.assert_allclose(cosines[0], -1.0 if kind == "cosine" else -np.inf, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused_by_their_vector(kind, wrong):
    x = np.ones((3, 5))
    y = x.copy()
    y[2, 1] = wrong
    for function in (similarity, similarity_pairwise):
        for pair in ((x, y), (y, x)):
            with pytest.raises(InputError, match="vector 2 holds a number that is not finite"):
                function(*pair, kind)


@pytest.mark.parametrize("wrong", ["text", [["a", "b"]], [[1.0], [1.0, 2.0]], None, object()])
def test_what_is_no_array_of_numbers_is_refused(wrong):
    with pytest.raises(InputTypeError, match="pass an array of numbers"):
        similarity(wrong, np.ones((1, 2)), "cosine")


def test_arrays_of_other_libraries_and_dtypes_do():
    x = draw(3, 5)
    np.testing.assert_allclose(np.linalg.norm(unit_length(x * 1e25), axis=1), 1.0, rtol=1e-6)
    for other in (x.tolist(), jnp.asarray(x), x.astype(np.float64)):
        np.testing.assert_allclose(similarity(other, x, "cosine"), exact(x, x), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [384, 768])
def test_equal_vectors_have_equal_scores(kind, width):
    row = draw(1, width)
    for queries in (1, 2, 3, 11, 67, 301):
        asked = draw(queries, width)[::-1]
        for n in (5, 37, 53, 101):
            alike = np.repeat(row, n, axis=0)
            scores = similarity(asked, alike, kind)
            assert (scores == scores[:, :1]).all(), (queries, n)
            scores = similarity(alike, asked, kind)
            assert (scores == scores[:1]).all(), (queries, n)
