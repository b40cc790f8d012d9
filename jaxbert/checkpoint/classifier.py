"""The head of a reranker or classifier: how many labels it has, and its weights.

Source: transformers' classes for sequence classification.
"""

import jax

from jaxbert.checkpoint.classifier_formats import classifier_format
from jaxbert.checkpoint.heads import beside, load_head
from jaxbert.checkpoint.kinds import ANSWERS
from jaxbert.checkpoint.tensor_names.spelling import listing
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.head import LabelHead


def number_of_labels(stored: Checkpoint) -> int:
    """The rows of the classifier; CheckpointError where it is not whole, or not alone."""
    there, kind = beside(stored), classifier_format(stored)
    weight = there.get(kind.weight)
    if weight is None:
        raise CheckpointError(f"{stored.folder} lacks {kind.weight}; fetch the weights again")
    others = sorted(name for name in there if ANSWERS.fullmatch(name) and name not in kind.names)
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


def load_classifier(stored: Checkpoint, device: jax.Device | None = None) -> LabelHead:
    """The head with its weights in float32; errors as in `number_of_labels` and `load_head`."""
    labels, kind = number_of_labels(stored), classifier_format(stored)
    return load_head(
        stored, kind.rules, lambda: kind.make(stored.config, labels, stored.raw), device
    )
