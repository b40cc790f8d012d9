"""Objectives: functions of (model, batch, key) -> (loss, metrics), for `value_and_grad` and jit.

A batch maps names to arrays. Texts are "ids" and "segments", both int32 [b, t], one text in a row;
segment 0 is padding. "types" [b, t] may be left out: all are 0. Where there are several texts the
names begin with what they are: "anchor_ids", "anchor_segments".
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxbert.arguments import integer
from jaxbert.errors import InputError
from jaxbert.inference.unrolled import sliced_where_faster
from jaxbert.model.transformer import Inputs, Transformer
from jaxbert.train import losses
from jaxbert.train.chunks import Embed, in_chunks
from jaxbert.train.dropout import check_rate
from jaxbert.train.dropout import dropout as with_dropout
from jaxbert.train.masking import WholeWords
from jaxbert.train.models import MaskedModel, TextModel
from jaxbert.train.trainable import Batch, Key, Metrics, Objective, Scalar

Loss = Callable[..., Scalar]

# --- what is read of a batch --------------------------------------------------------------------


def check_names(batch: Batch, names: Sequence[str]) -> None:
    """Raise InputError for a batch without one of these arrays."""
    for name in names:
        if name not in batch:
            raise InputError(f"the batch has no {name}; it has {', '.join(sorted(batch))}")


def texts_of(batch: Batch, kind: str = "") -> dict[str, jax.Array]:
    """The arrays of one kind of text, such as "anchor_", by their names without it.

    Raises InputError for missing arrays and for shapes that differ.
    """
    check_names(batch, [f"{kind}ids", f"{kind}segments"])
    names = [name for name in ("ids", "segments", "types") if f"{kind}{name}" in batch]
    texts = {name: jnp.asarray(batch[f"{kind}{name}"]) for name in names}
    for name, array in texts.items():
        if array.shape != texts["ids"].shape or array.ndim < 2:
            raise InputError(
                f"{kind}{name} has shape {array.shape} where {kind}ids has {texts['ids'].shape}; "
                "make them equal, [b, t]"
            )
    return texts


def inputs_of(texts: dict[str, jax.Array]) -> Inputs:
    """The Inputs of texts [b, t], whose positions are those in the row."""
    ids = texts["ids"]
    positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None, :]
    return Inputs(ids, texts["segments"], texts.get("types", jnp.zeros_like(ids)), positions)


def running(encoder: Transformer, rate: float, key: Key) -> Transformer:
    """The encoder as a step runs it: with dropout, and in the form that is faster here."""
    return sliced_where_faster(with_dropout(encoder, rate, key), jax.default_backend())


def embedding(model: TextModel, rows: int | None, rate: float) -> Embed:
    """A function of (texts, key) -> the model's vectors, with dropout, in chunks of rows."""

    def embed(texts: dict[str, jax.Array], key: Key) -> jax.Array:
        inputs = inputs_of(texts)
        encoder = running(model.encoder, rate, key)
        return model.head(encoder.forward(inputs), inputs.segments != 0)

    return embed if rows is None else in_chunks(embed, rows)


def check_rows(rows: Any) -> int | None:
    """The rows of a chunk, from 1 on; None: no chunks. Raises InputTypeError and InputError."""
    return None if rows is None else integer(rows, "rows", 1)


# --- the objectives -----------------------------------------------------------------------------


def masked_lm(masking: WholeWords, dropout: float = 0.0) -> Objective:
    """The mean cross entropy at masked places, and the accuracy there; the model is a MaskedModel.

    batch: "ids", "segments", and "words" [b, t], the number of the word that a token belongs to,
    -1 for special tokens and padding (masking.py). Logits are computed at masked places alone.
    """
    rate = check_rate(dropout)

    def objective(model: MaskedModel, batch: Batch, key: Key) -> tuple[Scalar, Metrics]:
        check_names(batch, ["words"])
        texts, (choice, noise) = texts_of(batch), jax.random.split(key)
        ids, places, weights = masking(texts["ids"], batch["words"], choice)
        encoder = running(model.encoder, rate, noise)
        hidden = encoder.forward(inputs_of(texts | {"ids": ids}))
        wanted = jnp.take_along_axis(texts["ids"], places, axis=1)
        answer = (model.logits(hidden, places), wanted, weights)
        return losses.masked_lm(*answer), {"accuracy": losses.accuracy(*answer)}

    return objective


def pairs(loss: Loss, rows: int | None = None, dropout: float = 0.0) -> Objective:
    """loss(a, b) of the vectors of anchors and positives; the model is a TextModel.

    batch: "anchor_ids", "anchor_segments", "positive_ids", "positive_segments" [b, t]; with
    "negative_ids", "negative_segments" [b, k, t] it is loss(a, b, negatives); "scores" [b] are
    passed to the loss by that name. rows: how many texts of a kind are in memory at a time, None:
    all; the gradients are the same (chunks.py). The metric "nearest" is the share of anchors whose
    own positive is the most similar of the batch.
    """
    rate, rows = check_rate(dropout), check_rows(rows)

    def objective(model: TextModel, batch: Batch, key: Key) -> tuple[Scalar, Metrics]:
        embed = embedding(model, rows, rate)
        kinds = [texts_of(batch, "anchor_"), texts_of(batch, "positive_")]
        more = {name: batch[name] for name in ("scores",) if name in batch}
        shape: tuple[int, ...] = ()
        if "negative_ids" in batch:
            hard = texts_of(batch, "negative_")
            shape = hard["ids"].shape
            kinds.append({name: x.reshape(-1, x.shape[-1]) for name, x in hard.items()})
        keys = jax.random.split(key, len(kinds))
        a, b, *negatives = (embed(texts, own) for texts, own in zip(kinds, keys, strict=True))
        negatives = [x.reshape(*shape[:2], x.shape[-1]) for x in negatives]
        nearest = jnp.argmax(losses.cosine_similarity(a, b), axis=1) == jnp.arange(len(a))
        metrics = {"nearest": nearest.astype(jnp.float32).mean()}
        return loss(a, b, *negatives, **more), metrics

    return objective


def distil(loss: Loss, rows: int | None = None, dropout: float = 0.0) -> Objective:
    """loss(student, teacher) of the vectors of texts and of those of a teacher, for a TextModel.

    batch: "ids", "segments" and "teacher", the vectors [b, d]; rows as in `pairs`. For a student of
    another width put a Dense of the teacher's behind its pooling, or pass a loss of similarities:
    `lambda s, t: kl(cosine_similarity(s, s), cosine_similarity(t, t), temperature=0.05)`.
    """
    rate, rows = check_rate(dropout), check_rows(rows)

    def objective(model: TextModel, batch: Batch, key: Key) -> tuple[Scalar, Metrics]:
        check_names(batch, ["teacher"])
        student = embedding(model, rows, rate)(texts_of(batch), key)
        return loss(student, jnp.asarray(batch["teacher"])), {}

    return objective
