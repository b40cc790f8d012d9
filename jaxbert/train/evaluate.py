"""How good a trained model is, on data that is never trained on."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbert.errors import InputError
from jaxbert.inference.similarity import similarity_pairwise
from jaxbert.process.backend import computing
from jaxbert.train.batches import Batches
from jaxbert.train.texts import OnBadRow, PairFields, read_pairs
from jaxbert.train.trainable import Objective

# The fields of the STS benchmark.
STS = PairFields(anchor="sentence1", positive="sentence2", negative=None, score="score")


class Scored(NamedTuple):
    """Two texts and how alike they are, as people said."""

    first: str
    second: str
    score: float


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 1; equal ones share the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[which]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks. NaN where one has a single value."""
    x, y = (ranks(np.asarray(values, np.float64)) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else float("nan")


def read_scored(
    inputs: Sequence[str], kind: str | None = None, names: PairFields = STS
) -> list[Scored]:
    """Pairs with scores, such as a JSONL of the STS benchmark. Raises InputError for a bad row."""
    found = [
        Scored(row.text, row.others[0], row.score)
        for row in read_pairs(inputs, kind, names, OnBadRow())
        if row.score is not None
    ]
    if len(found) < 2:
        raise InputError(f"{', '.join(inputs)} has {len(found)} pairs; a correlation needs two")
    return found


def texts_in(pairs: Iterable[Scored]) -> frozenset[str]:
    """All texts of the pairs, which are not to be trained on."""
    return frozenset(text for own in pairs for text in (own.first, own.second))


def correlation(encode: Callable[[Sequence[str]], np.ndarray], pairs: Sequence[Scored]) -> float:
    """Spearman's correlation of the cosines of vectors with the scores, times 100.

    Source: sentence-transformers, EmbeddingSimilarityEvaluator, whose cosine is this one.
    """
    first, second = (encode([getattr(own, name) for own in pairs]) for name in ("first", "second"))
    cosines = np.asarray(similarity_pairwise(first, second, "cosine"))
    return 100.0 * spearman(cosines, np.array([own.score for own in pairs]))


@partial(jax.jit, static_argnums=0)
def accuracy(objective: Objective, model: Any, batch: Any, seed: Any, step: Any) -> jax.Array:
    """The accuracy that an objective has as a metric, for a batch."""
    return objective(model, batch, jax.random.fold_in(jax.random.key(seed), step))[1]["accuracy"]


def masked_accuracy(model: Any, objective: Objective, batches: Batches, seed: int = 0) -> float:
    """The share of masked tokens that the model finds, in one epoch of batches.

    Texts beyond the last whole batch of a bucket are not looked at. The same words are masked for
    the same seed, whatever the model is.
    """
    with computing():
        found = [
            float(accuracy(objective, model, batches(step), seed, step))
            for step in range(batches.steps_per_epoch)
        ]
    return float(np.mean(found))
