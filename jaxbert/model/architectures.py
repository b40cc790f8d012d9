"""From a config of any family to the architecture of its encoder."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxbert.errors import ConfigError
from jaxbert.model.architecture import Architecture
from jaxbert.model.components import Components, bert_components
from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.distilbert import DistilBertConfig, distilbert
from jaxbert.model.families.modernbert import ModernBertConfig, modernbert
from jaxbert.model.families.mpnet import MpnetConfig, mpnet
from jaxbert.model.families.nomic import NomicConfig, nomic
from jaxbert.model.families.roberta import RobertaConfig, roberta
from jaxbert.model.families.t5 import T5Config, t5


def bert(config: EncoderConfig) -> Architecture:
    """BERT or JinaBERT: post-norm layers of the components that config names."""
    return Architecture.of_equal_layers(bert_components(config), config.num_layers)


ARCHITECTURES: Mapping[type, Callable[[Any], Architecture]] = {
    EncoderConfig: bert,
    DistilBertConfig: distilbert,
    ModernBertConfig: modernbert,
    MpnetConfig: mpnet,
    NomicConfig: nomic,
    RobertaConfig: roberta,
    T5Config: t5,
}


def architecture_of(config: EncoderConfig) -> Architecture:
    """The components, layers and embeddings of an encoder; a subclass counts as what it extends."""
    for kind in type(config).__mro__:
        if kind in ARCHITECTURES:
            return ARCHITECTURES[kind](config)
    raise ConfigError(f"config is a {type(config).__name__}; pass an EncoderConfig")


def components_of(config: EncoderConfig) -> Components:
    """The makers of the components that config names, for layers of its sizes."""
    return architecture_of(config).components
