"""Objectives: what is read of a batch, what is computed, and that a model learns by them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxbert.errors import InputError
from jaxbert.model.head import Dense, Normalize, Pooling, PoolingHead
from jaxbert.train import losses, objectives
from jaxbert.train.masking import WholeWords
from jaxbert.train.models import TextModel
from jaxbert.train.trainable import parameters, value_and_grad, with_parameters
from tests.models import make
from tests.tolerances import ENCODER, close
from tests.train.models import CONFIG, close_gradients, masked_model, norm, text_model, texts

KEY = jax.random.key(3)
MASKING = WholeWords(share=0.4, mask_id=4, vocab_size=31, special_ids=(0, 1, 2, 3, 4))
TEXTS = texts(0, 8)
MASKED = TEXTS | {"words": np.where(TEXTS["segments"] == 1, np.arange(11, dtype=np.int32), -1)}
PAIRS = texts(1, 8, kind="anchor_") | texts(2, 8, length=7, kind="positive_")
HARD = {name: x.reshape(8, 3, 7) for name, x in texts(3, 24, length=7, kind="negative_").items()}


def vectors(model, texts):
    """The vectors as an Embedder would compute them, with what the encoder's call checks."""
    mask = np.asarray(texts["segments"]) != 0
    return model.head(model.encoder(texts["ids"], mask), jnp.asarray(mask))


def of_kind(batch, kind):
    return {name.removeprefix(kind): x for name, x in batch.items() if name.startswith(kind)}


def learned(objective, model, batch, steps, rate=0.03):
    """The losses of a few steps on one batch with one key."""
    transform, found = optax.adam(rate), []

    @jax.jit
    def step(model, state):
        values = parameters(model)
        (loss, _), gradients = value_and_grad(objective)(model, batch, KEY)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to a power of integers
            updates, state = transform.update(gradients, state, values)
        return with_parameters(model, optax.apply_updates(values, updates)), state, loss

    state = transform.init(parameters(model))
    for _ in range(steps):
        model, state, loss = step(model, state)
        found.append(float(loss))
    return found


# --- masked language models ---------------------------------------------------------------------


def test_masked_lm_is_the_loss_of_all_logits_at_the_masked_places():
    model = masked_model()
    loss, metrics = jax.jit(objectives.masked_lm(MASKING))(model, MASKED, KEY)
    ids, places, weights = jax.jit(MASKING)(TEXTS["ids"], MASKED["words"], jax.random.split(KEY)[0])
    assert (np.asarray(ids) != TEXTS["ids"]).any()
    states = model.encoder(ids, TEXTS["segments"])
    every = np.asarray(model.head(states, model.encoder.embeddings.word[...]))
    row = np.arange(8)[:, None]
    answer = every[row, places], TEXTS["ids"][row, places], weights
    close(loss, losses.masked_lm(*answer), ENCODER)
    assert metrics == {"accuracy": losses.accuracy(*answer)}


def test_logits_are_computed_at_masked_places_alone():
    """p = 4 of 11 tokens: no array of the program has an axis of 11 beside one of 31."""
    program = jax.make_jaxpr(objectives.masked_lm(MASKING))(masked_model(), MASKED, KEY)
    assert "f32[8,4,31]" in str(program)
    assert "[8,11,31]" not in str(program)


def test_a_model_learns_masked_tokens():
    found = learned(objectives.masked_lm(MASKING, dropout=0.1), masked_model(), MASKED, 30)
    assert found[-1] < 0.2 * found[0]


# --- pairs --------------------------------------------------------------------------------------


def test_pairs_are_the_loss_of_the_models_vectors():
    model = text_model()
    loss, metrics = jax.jit(objectives.pairs(losses.info_nce))(model, PAIRS | HARD, KEY)
    a, b = (vectors(model, of_kind(PAIRS, kind)) for kind in ("anchor_", "positive_"))
    flat = {name: x.reshape(24, 7) for name, x in of_kind(HARD, "negative_").items()}
    negatives = vectors(model, flat).reshape(8, 3, -1)
    close(loss, losses.info_nce(a, b, negatives), ENCODER)
    nearest = np.asarray(a @ b.T).argmax(1) == np.arange(8)
    assert metrics == {"nearest": np.float32(nearest.mean())}


def test_gradients_in_chunks_of_rows_are_the_same():
    loss = losses.matryoshka(losses.info_nce, (15, 4))
    whole, chunked = (
        jax.jit(value_and_grad(objectives.pairs(loss, rows=rows)))(text_model(), PAIRS | HARD, KEY)
        for rows in (None, 4)
    )
    close(chunked[0][0], whole[0][0], ENCODER)
    close_gradients(chunked[1], whole[1])


def test_scores_are_passed_by_name():
    def loss(a, b, scores):
        return losses.cosent(losses.row_similarity(a, b), scores)

    scores = np.linspace(0, 1, 8, dtype=np.float32)
    model = text_model()
    found, _ = jax.jit(objectives.pairs(loss))(model, PAIRS | {"scores": scores}, KEY)
    a, b = (vectors(model, of_kind(PAIRS, kind)) for kind in ("anchor_", "positive_"))
    close(found, loss(a, b, scores), ENCODER)


def test_dropout_draws_for_anchors_and_positives_apart():
    """The same text twice is a pair whose vectors differ, as SimCSE has it (arXiv:2104.08821)."""
    same = texts(1, 8, kind="anchor_") | texts(1, 8, kind="positive_")
    run = jax.jit(objectives.pairs(losses.cosine, dropout=0.1))
    model = text_model()
    first, again, other = (run(model, same, jax.random.key(i))[0] for i in (0, 0, 1))
    assert first > 1e-3
    assert first == again
    assert first != other


def test_a_model_learns_pairs():
    found = learned(objectives.pairs(losses.info_nce), text_model(), PAIRS, 20, rate=0.01)
    assert found[-1] < 0.2 * found[0]


# --- distillation -------------------------------------------------------------------------------

TEACHER = np.random.default_rng(5).normal(size=(8, 15)).astype(np.float32)
WIDE = np.random.default_rng(5).normal(size=(8, 19)).astype(np.float32)


def test_distillation_is_the_loss_of_student_and_teacher():
    model = text_model()
    run = jax.jit(objectives.distil(losses.mse))
    loss, metrics = run(model, TEXTS | {"teacher": TEACHER}, KEY)
    close(loss, losses.mse(vectors(model, TEXTS), TEACHER), ENCODER)
    assert metrics == {}


def test_a_student_of_another_width_has_a_dense_layer_or_a_loss_of_similarities():
    batch = TEXTS | {"teacher": WIDE}
    with pytest.raises(InputError, match=r"b has shape \(8, 19\) where a has \(8, 15\)"):
        jax.eval_shape(objectives.distil(losses.cosine), text_model(), batch, KEY)
    weight = np.random.default_rng(6).normal(size=(19, 15)).astype(np.float32)
    head = PoolingHead(Pooling(), [Dense(weight, None, "Identity"), Normalize()])
    student = TextModel(make(CONFIG), head)
    _, gradients = jax.eval_shape(
        value_and_grad(objectives.distil(losses.cosine)), student, batch, KEY
    )
    assert gradients["head.after.0.weight"].shape == (19, 15)

    def similarities(student, teacher):
        own, wanted = (losses.cosine_similarity(x, x) for x in (student, teacher))
        return losses.kl(own, wanted, temperature=0.1)

    gradient = value_and_grad(objectives.distil(similarities), frozen=["encoder.embeddings"])
    (loss, _), found = jax.jit(gradient)(text_model(), batch, KEY)
    assert loss > 0
    assert norm(found) > 0


# --- batches ------------------------------------------------------------------------------------


def test_types_are_given_to_the_model():
    run = jax.jit(objectives.distil(losses.mse))
    batch, model = TEXTS | {"teacher": TEACHER}, text_model()
    zeros, ones = (np.full_like(TEXTS["ids"], number) for number in (0, 1))
    plain, same, other = (
        run(model, batch | more, KEY)[0] for more in ({}, {"types": zeros}, {"types": ones})
    )
    assert plain == same
    assert other != same


BROKEN = {
    "the batch has no words; it has ids, segments": (objectives.masked_lm(MASKING), TEXTS),
    "the batch has no positive_ids": (
        objectives.pairs(losses.cosine),
        of_kind(PAIRS, "x") | {name: x for name, x in PAIRS.items() if name.startswith("anchor")},
    ),
    "the batch has no teacher": (objectives.distil(losses.cosine), TEXTS),
    "segments has shape": (
        objectives.distil(losses.cosine),
        TEXTS | {"segments": TEXTS["segments"][:, 1:], "teacher": TEACHER},
    ),
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_batch_without_what_is_needed_is_refused(sentence):
    objective, batch = BROKEN[sentence]
    model = masked_model() if "words" in sentence else text_model()
    with pytest.raises(InputError, match=sentence):
        jax.eval_shape(objective, model, batch, KEY)


def test_a_rate_is_checked_when_the_objective_is_made():
    with pytest.raises(InputError, match=r"the rate of dropout is 1.5"):
        objectives.pairs(losses.cosine, dropout=1.5)
    with pytest.raises(InputError, match="rows is 0"):
        objectives.pairs(losses.cosine, rows=0)
