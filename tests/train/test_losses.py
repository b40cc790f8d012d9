"""Losses of arrays beside their formulas in float64, and what they refuse."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert.errors import InputError, InputTypeError
from jaxbert.train import losses
from tests.tolerances import FUNCTION, close

# 5 rows, 7 features, 3 negatives of each row, 2 places, a vocabulary of 11.
RANDOM = np.random.default_rng(0)
A, B = (RANDOM.normal(size=(5, 7)).astype(np.float32) for _ in range(2))
NEGATIVES = RANDOM.normal(size=(5, 3, 7)).astype(np.float32)
LOGITS = RANDOM.normal(scale=3, size=(5, 2, 11)).astype(np.float32)
IDS = RANDOM.integers(0, 11, (5, 2)).astype(np.int32)
SIMILARITY = RANDOM.uniform(-1, 1, 5).astype(np.float32)
SCORES = np.array([3, 1, 4, 1, 5], np.float32)


def cosine_of(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return x @ y / np.sqrt((x @ x) * (y @ y))


def log_softmax(x):
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def info_nce(a, b, negatives, temperature):
    candidates = [*b, *negatives.reshape(-1, negatives.shape[-1])]
    rows = [[cosine_of(x, y) / temperature for y in candidates] for x in a]
    return -np.mean([log_softmax(np.array(row))[i] for i, row in enumerate(rows)])


@pytest.mark.parametrize("k", [0, 3])
def test_info_nce(k):
    negatives = NEGATIVES[:, :k]
    got = losses.info_nce(A, B, negatives if k else None, temperature=0.07)
    close(got, info_nce(A, B, negatives, 0.07), FUNCTION)
    # Rows of b are each other's negatives, so their order counts.
    assert abs(losses.info_nce(A, B[::-1]) - losses.info_nce(A, B)) > 0.1


def test_info_nce_takes_no_heed_of_lengths_and_of_the_order_of_negatives():
    got = losses.info_nce(3 * A, B / 7, NEGATIVES[::-1, ::-1] * 5)
    close(got, losses.info_nce(A, B, NEGATIVES), FUNCTION)


def test_cosent():
    total = 1.0
    for i in range(5):
        for j in range(5):
            if SCORES[i] > SCORES[j]:
                total += np.exp(13.0 * (np.float64(SIMILARITY[j]) - SIMILARITY[i]))
    close(losses.cosent(SIMILARITY, SCORES, scale=13.0), np.log(total), FUNCTION)
    assert losses.cosent(SIMILARITY, np.ones(5, np.float32)) == 0.0  # nothing is to be ordered


def test_cosine_and_mse():
    expected = np.mean([1 - cosine_of(x, y) for x, y in zip(A, B, strict=True)])
    close(losses.cosine(A, B), expected, FUNCTION)
    close(losses.mse(A, B), np.mean((A.astype(np.float64) - B) ** 2), FUNCTION)
    close(
        losses.cosine_similarity(A, NEGATIVES[0])[1, 2], cosine_of(A[1], NEGATIVES[0, 2]), FUNCTION
    )


def test_kl():
    rows = []
    for student, teacher in zip(A.astype(np.float64), B.astype(np.float64), strict=True):
        own, wanted = log_softmax(student / 3), log_softmax(teacher / 3)
        rows.append((np.exp(wanted) * (wanted - own)).sum())
    close(losses.kl(A, B, temperature=3.0), 9 * np.mean(rows), FUNCTION)
    assert losses.kl(A, A, temperature=3.0) == 0.0


def test_masked_lm_and_accuracy():
    weights = np.array([[1, 0], [1, 1], [0, 0], [1, 1], [1, 0]], np.float32)
    rows = [log_softmax(LOGITS[i].astype(np.float64).T[:, j]) for i in range(5) for j in range(2)]
    terms = np.array([-row[id] for row, id in zip(rows, IDS.reshape(-1), strict=True)])
    right = np.array([row.argmax() == id for row, id in zip(rows, IDS.reshape(-1), strict=True)])
    used = weights.reshape(-1) == 1
    close(losses.masked_lm(LOGITS, IDS), terms.mean(), FUNCTION)
    close(losses.masked_lm(LOGITS, IDS, weights), terms[used].mean(), FUNCTION)
    best = LOGITS.argmax(-1)
    assert losses.accuracy(LOGITS, IDS) == np.float32(right.mean())
    assert losses.accuracy(LOGITS, best, weights) == 1.0
    assert losses.masked_lm(LOGITS, IDS, 0 * weights) == 0.0


@pytest.mark.parametrize("wrong", [-100, -1, 11])
def test_an_id_outside_the_vocabulary_gives_nan(wrong):
    ids = IDS.copy()
    ids[3, 1] = wrong
    assert np.isnan(losses.masked_lm(LOGITS, ids))


def test_matryoshka_with_negatives_and_arguments_by_name():
    loss = losses.matryoshka(losses.info_nce, (7, 4, 2), weights=(1.0, 0.5, 0.25))
    expected = sum(
        weight * info_nce(A[:, :d], B[:, :d], NEGATIVES[..., :d], 0.2)
        for d, weight in ((7, 1.0), (4, 0.5), (2, 0.25))
    )
    close(loss(A, B, NEGATIVES, temperature=0.2), expected, FUNCTION)


def test_matryoshka_over_any_loss_of_vectors():
    for kind in (losses.cosine, losses.mse, losses.info_nce):
        loss = losses.matryoshka(kind, (5, 3))
        close(loss(A, B), kind(A[:, :5], B[:, :5]) + kind(A[:, :3], B[:, :3]), FUNCTION)

    def ordered(a, b, scores):
        return losses.cosent(losses.row_similarity(a, b), scores)

    got = losses.matryoshka(ordered, [3])(A, B, scores=SCORES)
    close(got, ordered(A[:, :3], B[:, :3], SCORES), FUNCTION)


CALLS = {
    "info_nce": lambda dtype: losses.info_nce(*cast(dtype, A, B, NEGATIVES)),
    "cosent": lambda dtype: losses.cosent(*cast(dtype, SIMILARITY, SCORES)),
    "cosine": lambda dtype: losses.cosine(*cast(dtype, A, B)),
    "mse": lambda dtype: losses.mse(*cast(dtype, A, B)),
    "kl": lambda dtype: losses.kl(*cast(dtype, A, B), 2.0),
    "masked_lm": lambda dtype: losses.masked_lm(*cast(dtype, LOGITS), IDS),
}


def cast(dtype, *arrays):
    """The arrays in a dtype, of numbers that bfloat16 can hold."""
    return [jnp.asarray(x, jnp.bfloat16).astype(dtype) for x in arrays]


@pytest.mark.parametrize("name", CALLS)
def test_float32_whatever_the_inputs(name):
    narrow, wide = CALLS[name](jnp.bfloat16), CALLS[name](jnp.float32)
    assert narrow.dtype == jnp.float32
    assert narrow.shape == ()
    assert narrow == wide


def test_gradients_are_finite_where_a_vector_is_zero():
    zero = np.zeros_like(A)
    for loss in (losses.cosine, losses.info_nce):
        assert np.isfinite(jax.grad(loss)(zero, B)).all()


# What is passed, and what the one sentence says.
REFUSED = {
    "another width": (lambda: losses.info_nce(A, B[:, :6]), r"b has shape \(5, 6\)"),
    "another number of rows": (lambda: losses.cosine(A, B[:4]), r"b has shape \(4, 7\)"),
    "one vector": (lambda: losses.mse(A[0], B[0]), r"a has shape \(7,\); pass \[b, d\]"),
    "no rows": (lambda: losses.cosine(A[:0], B[:0]), r"a has shape \(0, 7\)"),
    "negatives of others": (lambda: losses.info_nce(A, B, NEGATIVES[:4]), "negatives has shape"),
    "flat negatives": (lambda: losses.info_nce(A, B, NEGATIVES[:, 0]), r"pass \[b, k, d\]"),
    "no temperature": (lambda: losses.info_nce(A, B, temperature=0.0), "temperature is 0.0"),
    "infinite": (lambda: losses.kl(A, B, float("inf")), "temperature is inf"),
    "negative scale": (lambda: losses.cosent(SIMILARITY, SCORES, -20.0), "scale is -20.0"),
    "a matrix": (lambda: losses.cosent(A, SCORES), r"similarity has shape \(5, 7\); pass \[b\]"),
    "fewer scores": (lambda: losses.cosent(SIMILARITY, SCORES[1:]), "scores has shape"),
    "one candidate": (lambda: losses.kl(A[:, :1], B[:, :1], 1.0), "one candidate in a row"),
    "another vocabulary": (lambda: losses.masked_lm(LOGITS, IDS[:, :1]), "ids has shape"),
    "weights of others": (lambda: losses.masked_lm(LOGITS, IDS, SCORES), "weights has shape"),
    "too wide": (lambda: losses.matryoshka(losses.mse, (8, 2))(A, B), "dims has 8"),
    "twice": (lambda: losses.matryoshka(losses.mse, (2, 2)), "a width twice"),
    "no width": (lambda: losses.matryoshka(losses.mse, (0,)), "a number of dims is 0"),
    "weights": (lambda: losses.matryoshka(losses.mse, (2,), (1.0, 2.0)), "2 weights for 1 dims"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_loss_is_refused(case):
    call, sentence = REFUSED[case]
    with pytest.raises(InputError, match=sentence):
        call()


def test_wrong_types_are_refused_also_in_a_trace():
    with pytest.raises(InputTypeError, match="a has dtype int32"):
        losses.mse(IDS, IDS)
    with pytest.raises(InputTypeError, match="ids has dtype float32"):
        losses.masked_lm(LOGITS, SCORES)
    with pytest.raises(InputTypeError, match="dims is 3"):
        losses.matryoshka(losses.mse, 3)
    with pytest.raises(InputError, match="b has shape"):
        jax.jit(partial(losses.info_nce, temperature=0.1))(A, B[1:])
