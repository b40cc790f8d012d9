"""Scores that others have published for known rerankers, and the same scores of a model here."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxbert.cross_encoder import CrossEncoder
from jaxbert.errors import InputError
from jaxbert.inference.scoring import ACTIVATIONS, activated
from jaxbert.verify.opened import Model
from jaxbert.verify.parts import Scores


@dataclass(frozen=True, kw_only=True)
class PublishedScores:
    """The published scores of a query with each of some documents, or of one text alone."""

    model: str  # the hub's name
    source: str  # repository and file
    how: str  # what computed them, and where the tolerance comes from
    text: str  # the query
    documents: tuple[str, ...]  # none: the query is a text alone, without a second one
    activation: Literal["Identity", "Sigmoid", "Tanh"]  # what made the scores of logits
    scores: tuple[float, ...]  # those of each document's labels, one document after another
    tolerance: float  # the largest difference of a score
    revision: str | None = None  # of the weights, where the source names one

    @property
    def components(self) -> tuple[float, ...]:
        """The numbers to compare: all scores."""
        return self.scores

    @property
    def cosine(self) -> None:
        """Nothing, for a list of scores has no direction that means anything."""
        return None

    @property
    def labels(self) -> int:
        """How many scores a document has."""
        return len(self.scores) // max(1, len(self.documents))

    @property
    def title(self) -> str:
        """What they are, in a few words."""
        return "logits" if self.activation == "Identity" else f"{self.activation} of logits"

    def compute(self, model: Model) -> np.ndarray:
        """Our scores [documents * labels], activated as this entry says and not as a folder does.

        Raises InputError for a model that makes no scores, or as many as another model.
        """
        part = model.part
        if not isinstance(part, Scores):
            raise InputError(
                f"what is published for {self.model} are scores of a reranker, but this folder is "
                f"that of an {part.title}: compare it with what is published for its own name"
            )
        scorer = CrossEncoder(model.encoder, part.head, model.needed_tokenizer, part.settings)
        if scorer.num_labels != self.labels:
            raise InputError(
                f"{self.model} gives {self.labels} scores of a text, but this model gives "
                f"{scorer.num_labels}: it is another model, so compare it with what is published "
                "for its own name"
            )
        if self.documents:
            logits = [pair_logits(scorer, self.text, document) for document in self.documents]
        else:
            (ids,) = scorer.tokenizer([self.text], scorer.max_seq_length)
            logits = [np.asarray(scorer.logits(ids[None]))]
        return activated(np.concatenate(logits), ACTIVATIONS[self.activation]).ravel()


def pair_logits(scorer: CrossEncoder, query: str, document: str) -> np.ndarray:
    """float32 [1, labels], of the pair alone and not in a batch."""
    pair = [(query, document)]
    ((ids, types),) = scorer.tokenizer.pairs(pair, scorer.max_seq_length, typed=True)
    return np.asarray(scorer.logits(ids[None], None, types[None] if scorer.typed else None))
