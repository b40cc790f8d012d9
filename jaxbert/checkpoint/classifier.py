"""The head of a reranker or classifier: how many labels it has, and its weights.

Source: transformers' BertForSequenceClassification.
"""

import jax
from flax import nnx

from jaxbert.checkpoint.heads import beside, load_head
from jaxbert.checkpoint.kinds import ANSWERS, CLASSIFIER_WEIGHT
from jaxbert.checkpoint.tensor_names.heads import CLASSIFIER
from jaxbert.checkpoint.tensor_names.spelling import listing
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.head import Classifier

# All tensors of the head.
NAMES = frozenset(rule.name for rule in CLASSIFIER)


def number_of_labels(stored: Checkpoint) -> int:
    """The rows of the classifier; CheckpointError where it is not whole, or not alone."""
    there = beside(stored)
    weight = there.get(CLASSIFIER_WEIGHT)
    if weight is None:
        raise CheckpointError(f"{stored.folder} lacks {CLASSIFIER_WEIGHT}; fetch the weights again")
    head = {CLASSIFIER_WEIGHT, "classifier.bias"}
    others = sorted(name for name in there if ANSWERS.fullmatch(name) and name not in head)
    if others:
        raise CheckpointError(
            f"{stored.folder} has {listing(others)} beside its classifier, which is not "
            "understood; no score is computed without it"
        )
    if len(weight.shape) != 2:
        raise CheckpointError(
            f"{weight.name} has shape {weight.shape}; a classifier is [labels, width]"
        )
    return int(weight.shape[0])


def load_classifier(stored: Checkpoint, device: jax.Device | None = None) -> Classifier:
    """The head with its weights in float32; errors as in `number_of_labels` and `load_head`."""
    labels = number_of_labels(stored)

    def make() -> Classifier:
        return Classifier(stored.config.sizes, labels, rngs=nnx.Rngs(0), std=1.0)

    return load_head(stored, CLASSIFIER, make, device)
