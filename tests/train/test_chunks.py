"""A loss over all rows with the memory of a chunk of them, and the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbert import EncoderConfig
from jaxbert.errors import InputError
from jaxbert.train import losses
from jaxbert.train.chunks import in_chunks
from jaxbert.train.dropout import dropout
from jaxbert.train.objectives import inputs_of, texts_of
from tests.tolerances import ENCODER, close
from tests.train.models import close_gradients, text_model, texts

LOSS = losses.matryoshka(losses.info_nce, (15, 5))
BATCH = texts(0, 12, kind="anchor_") | texts(1, 12, kind="positive_")


def embedding(model, rate):
    def embed(rows, key):
        inputs = inputs_of(rows)
        return model.head(dropout(model.encoder, rate, key).forward(inputs), inputs.segments != 0)

    return embed


def gradients(over_all, rate):
    """The loss and its gradients, where over_all makes a function of all rows of one of a chunk."""

    def loss(model):
        embed = over_all(embedding(model, rate))
        a, b = (
            embed(texts_of(BATCH, kind), jax.random.key(5)) for kind in ("anchor_", "positive_")
        )
        return LOSS(a, b)

    return jax.jit(jax.value_and_grad(loss))(text_model())


def one_after_the_other(embed):
    """What in_chunks does for 6 of 12 rows, without a scan and with all states kept."""

    def embed_all(rows, key):
        keys = jax.random.split(key, 2)
        parts = [
            embed({name: x[i * 6 : i * 6 + 6] for name, x in rows.items()}, keys[i])
            for i in range(2)
        ]
        return jnp.concatenate(parts)

    return embed_all


def test_gradients_of_chunks_are_those_of_all_rows_at_once():
    loss, found = gradients(lambda embed: in_chunks(embed, 3), rate=0.0)
    expected_loss, expected = gradients(lambda embed: embed, rate=0.0)
    close(loss, expected_loss, ENCODER)
    close_gradients(found, expected)


def test_with_dropout_every_chunk_has_a_key_of_its_own():
    loss, found = gradients(lambda embed: in_chunks(embed, 6), rate=0.3)
    expected_loss, expected = gradients(one_after_the_other, rate=0.3)
    close(loss, expected_loss, ENCODER)
    close_gradients(found, expected)


def test_the_chunks_are_in_order_and_their_keys_differ():
    def embed(rows, key):
        return rows["x"] + 0 * jax.random.uniform(key, rows["x"].shape), jnp.broadcast_to(
            jax.random.uniform(key), rows["x"].shape[:1]
        )

    x = np.arange(12.0, dtype=np.float32).reshape(6, 2)
    same, luck = in_chunks(embed, 2)({"x": x}, jax.random.key(0))
    assert (np.asarray(same) == x).all()
    assert len(set(np.asarray(luck).tolist())) == 3


def test_few_rows_are_one_chunk():
    key = jax.random.key(3)
    embed = embedding(text_model(), 0.2)
    rows = texts_of({name: x[:3] for name, x in BATCH.items()}, "anchor_")
    assert jax.make_jaxpr(in_chunks(embed, 3))(rows, key).eqns[0].primitive.name != "scan"
    whole = jax.jit(in_chunks(embed, 7))(rows, key)
    assert (np.asarray(whole) == np.asarray(jax.jit(embed)(rows, key))).all()


def test_rows_that_make_no_whole_chunks_are_refused():
    embed = in_chunks(lambda rows, key: rows["ids"], 5)
    with pytest.raises(InputError, match="12 rows are no multiple of the 5 of a chunk"):
        embed(texts(0, 12), jax.random.key(0))
    with pytest.raises(InputError, match=r"the arrays have \[4, 12\] rows"):
        embed({"ids": np.zeros((12, 2)), "segments": np.zeros((4, 2))}, jax.random.key(0))
    with pytest.raises(InputError, match="rows is 0"):
        in_chunks(lambda rows, key: rows, 0)


# Large enough that states are most of the memory, and similarities and vectors are not.
WIDE = EncoderConfig.jinabert(
    vocab_size=31, hidden_size=32, num_layers=2, num_heads=2, intermediate_size=64
)


def memory(rows, over_all):
    """The bytes beside arguments and results that the gradient of a loss of so many rows takes."""

    def loss(model, ids):
        embed = over_all(embedding(model, 0.1))
        vectors = embed({"ids": ids, "segments": jnp.ones_like(ids)}, jax.random.key(0))
        return losses.info_nce(vectors, vectors)

    ids = jax.ShapeDtypeStruct((rows, 64), jnp.int32)
    lowered = jax.jit(jax.grad(loss)).lower(text_model(WIDE), ids)
    return lowered.compile().memory_analysis().temp_size_in_bytes


def test_1024_rows_take_the_memory_of_256():
    """Beside a chunk there are the vectors of all rows, and their similarities: 1024^2 numbers."""
    one, all_chunks = memory(256, lambda embed: embed), memory(1024, lambda e: in_chunks(e, 256))
    assert all_chunks < 1.2 * one
    assert memory(1024, lambda embed: embed) > 3.5 * one
