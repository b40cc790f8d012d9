"""Objectives: functions of (model, batch, key) -> (loss, metrics), for `value_and_grad` and jit.

A batch maps names to arrays. Texts are "ids" and "segments", both int32 [b, t], one text in a row;
segment 0 is padding. "types" [b, t] may be left out: all are 0. Where there are several texts the
names begin with what they are: "anchor_ids", "anchor_segments".
"""

from collections.abc import Callable
from typing import Any

from jaxbert.train.trainable import Objective, Scalar

Loss = Callable[..., Scalar]


def masked_lm(masking: Any, dropout: float = 0.0) -> Objective:
    """The mean cross entropy at masked places, and the accuracy there; the model is a MaskedModel.

    batch: "ids", "segments", and "words" [b, t], the number of the word that a token belongs to,
    -1 for special tokens and padding. masking is a WholeWords (masking.py).
    """
    raise NotImplementedError


def pairs(loss: Loss, rows: int | None = None, dropout: float = 0.0) -> Objective:
    """loss(a, b) of the vectors of anchors and positives; the model is a TextModel.

    batch: "anchor_ids", "anchor_segments", "positive_ids", "positive_segments" [b, t]; with
    "negative_ids", "negative_segments" [b, k, t] it is loss(a, b, negatives); "scores" [b] are
    passed to the loss by that name. rows: how many texts are in memory at a time, None: all; the
    gradients are the same (chunks.py).
    """
    raise NotImplementedError


def distil(loss: Loss, rows: int | None = None, dropout: float = 0.0) -> Objective:
    """loss(student, teacher) of the vectors of texts and of those of a teacher, for a TextModel.

    batch: "ids", "segments" and "teacher", the vectors [b, d].
    """
    raise NotImplementedError
