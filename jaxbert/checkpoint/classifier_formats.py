"""How each family stores the classifier of a reranker: its tensors, and the module that they fill.

Source: transformers' classes for sequence classification.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flax import nnx

from jaxbert.checkpoint.config_fields import ACTIVATIONS as NAMES
from jaxbert.checkpoint.config_fields import WordKey
from jaxbert.checkpoint.tensor_names.heads import (
    CLASSIFIER,
    DISTILBERT_CLASSIFIER,
    MODERNBERT_CLASSIFIER,
    ROBERTA_CLASSIFIER,
)
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.activations import ACTIVATIONS, relu
from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.modernbert import ModernBertClassifier
from jaxbert.model.head import POOLINGS, Classifier

Raw = Mapping[str, Any]  # the contents of config.json


@dataclass(frozen=True)
class ClassifierFormat:
    """The rules of a classifier's tensors, and its module with random weights."""

    rules: Sequence[Rule]
    make: Callable[[EncoderConfig, int, Raw], Any]  # (config, labels, contents of config.json)

    @property
    def weight(self) -> str:
        """The name of the tensor that has a row for each label."""
        return next(rule.name for rule in self.rules if rule.path == "weight")

    @property
    def names(self) -> frozenset[str]:
        """The names of all tensors."""
        return frozenset(rule.name for rule in self.rules)


def bert(config: EncoderConfig, labels: int, raw: Raw) -> Classifier:
    """A pooler with tanh, then the classifier."""
    return Classifier(config.sizes, labels, rngs=nnx.Rngs(0), std=1.0)


def distilbert(config: EncoderConfig, labels: int, raw: Raw) -> Classifier:
    """A dense layer with relu, then the classifier."""
    return Classifier(config.sizes, labels, rngs=nnx.Rngs(0), std=1.0, activation=relu)


MODERN_ACTIVATION = WordKey("classifier_activation", "activation", "gelu", NAMES)
MODERN_POOLING = WordKey("classifier_pooling", "pool", "cls", {"cls": "cls", "mean": "mean"})


def modernbert(config: EncoderConfig, labels: int, raw: Raw) -> ModernBertClassifier:
    """Pooling and activation as config.json says; CheckpointError for a bias in the dense layer."""
    if raw.get("classifier_bias"):
        raise CheckpointError(
            "config.json has classifier_bias = True; only a dense layer without bias is understood"
        )
    return ModernBertClassifier(
        config,
        labels,
        rngs=nnx.Rngs(0),
        std=1.0,
        activation=ACTIVATIONS[MODERN_ACTIVATION.read(raw)],
        pool=POOLINGS[MODERN_POOLING.read(raw)],
    )


BERT = ClassifierFormat(CLASSIFIER, bert)
ROBERTA = ClassifierFormat(ROBERTA_CLASSIFIER, bert)
FORMATS: Mapping[str, ClassifierFormat] = {
    "distilbert": ClassifierFormat(DISTILBERT_CLASSIFIER, distilbert),
    "modernbert": ClassifierFormat(MODERNBERT_CLASSIFIER, modernbert),
    "mpnet": ROBERTA,
    "roberta": ROBERTA,
}


def classifier_format(stored: Checkpoint) -> ClassifierFormat:
    """The format of a folder's family: that of BERT where it has none of its own."""
    return FORMATS.get(stored.family, BERT)


def classifier_names(stored: Checkpoint) -> frozenset[str]:
    """The names of the tensors of a classifier in a folder of this family."""
    return classifier_format(stored).names
