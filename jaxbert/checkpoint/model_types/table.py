"""Which ModelType a folder or a config has."""

from collections.abc import Mapping
from typing import Any

from jaxbert.checkpoint.model_types.bert import BERT
from jaxbert.checkpoint.model_types.distilbert import DISTILBERT_TYPE
from jaxbert.checkpoint.model_types.model_type import ModelType
from jaxbert.checkpoint.model_types.modernbert import MODERNBERT_TYPE
from jaxbert.checkpoint.model_types.mpnet import MPNET_TYPE
from jaxbert.checkpoint.model_types.nomic import NOMIC_TYPE
from jaxbert.checkpoint.model_types.roberta import ROBERTA
from jaxbert.checkpoint.model_types.t5 import T5
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.distilbert import DistilBertConfig
from jaxbert.model.families.modernbert import ModernBertConfig
from jaxbert.model.families.mpnet import MpnetConfig
from jaxbert.model.families.nomic import NomicConfig
from jaxbert.model.families.roberta import RobertaConfig
from jaxbert.model.families.t5 import T5Config

# By model_type in config.json; BERT and JinaBERT may have none.
BY_NAME: Mapping[Any, ModelType] = {
    "bert": BERT,
    "camembert": ROBERTA,
    "distilbert": DISTILBERT_TYPE,
    "modernbert": MODERNBERT_TYPE,
    "mpnet": MPNET_TYPE,
    "mt5": T5,
    "nomic_bert": NOMIC_TYPE,
    "roberta": ROBERTA,
    "t5": T5,
    "xlm-roberta": ROBERTA,
}
BY_CONFIG: Mapping[type, ModelType] = {
    EncoderConfig: BERT,
    DistilBertConfig: DISTILBERT_TYPE,
    ModernBertConfig: MODERNBERT_TYPE,
    MpnetConfig: MPNET_TYPE,
    NomicConfig: NOMIC_TYPE,
    RobertaConfig: ROBERTA,
    T5Config: T5,
}
# The model_type of folders whose encoders have parts of a user's own code.
OWN = "jaxbert"
# Models that look like one of these and compute something else.
OTHERS = {
    OWN: "it has parts of code that is not in the folder",
    "umt5": "it has a relative bias of its own in every layer",
    "longt5": "its attention is local",
    "t5gemma": "its layers are those of Gemma",
    "switch_transformers": "its feed-forwards are mixtures of experts",
    "pop2piano": "it reads audio",
}


def model_type_of(raw: Mapping[str, Any]) -> ModelType:
    """The ModelType that config.json names; CheckpointError for one that is not implemented."""
    name = raw.get("model_type")
    if name is None:
        return BERT
    if not isinstance(name, str) or name not in BY_NAME:
        why = f" ({OTHERS[name]})" if isinstance(name, str) and name in OTHERS else ""
        raise CheckpointError(
            f"config.json has model_type = {shown(name)}{why}; implemented are "
            f"{', '.join(sorted(BY_NAME))}"
        )
    return BY_NAME[name]


def model_type_for(config: EncoderConfig) -> ModelType:
    """The ModelType whose files describe this config; CheckpointError for a class of its own."""
    if type(config) not in BY_CONFIG:
        raise CheckpointError(
            f"the encoder's config is a {type(config).__name__}, which no config.json describes"
        )
    return BY_CONFIG[type(config)]
