"""DistilBERT, such as multi-qa-distilbert-cos-v1 and msmarco-distilbert-base-v4.

Source: transformers' DistilBertConfig and DistilBertModel.
"""

import re

from jaxbert.checkpoint.config_fields import ACTIVATIONS, Key, NumberKey, WordKey
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.model_types.model_type import ModelType, NativeConfig, one_table
from jaxbert.checkpoint.model_types.roberta import ENCODERS_ONLY
from jaxbert.checkpoint.tensor_names.distilbert import DISTILBERT, LAYER
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.model.families.distilbert import DistilBertConfig

FIELDS = (
    Key("vocab_size", "vocab_size"),
    Key("dim", "hidden_size"),
    Key("n_layers", "num_layers"),
    Key("n_heads", "num_heads"),
    Key("hidden_dim", "intermediate_size"),
    Key("max_position_embeddings", "max_positions", 512),
    NumberKey("dropout", "hidden_dropout", 0.1),
    NumberKey("attention_dropout", "attention_dropout", 0.1),
    NumberKey("initializer_range", "initializer_range", 0.02),
    WordKey("activation", "activation", "gelu", ACTIVATIONS),
)
KEYS = ConfigKeys(
    "DistilBERT",
    read=frozenset(key.name for key in FIELDS) | {"auto_map", "architectures"},
    required={"model_type": ("distilbert",), **ENCODERS_ONLY},
    classes=r"DistilBert(Model|For[A-Z]\w*)",
    # Positions are read from their table, also where they began as sines.
    harmless=frozenset("sinusoidal_pos_embds qa_dropout seq_classif_dropout tie_weights_".split()),
)
FILE = NativeConfig(
    "distilbert",
    DistilBertConfig,
    FIELDS,
    KEYS,
    {"model_type": "distilbert", "architectures": ["DistilBertModel"], "pad_token_id": 0},
)


DISTILBERT_TYPE = ModelType(
    title="DistilBERT",
    words=(WORD,),
    base="distilbert",
    layers=LAYER,
    layers_key="n_layers",
    not_needed=re.compile(
        r"vocab_(transform|layer_norm|projector)\..+|(pre_)?classifier\..+|qa_outputs\..+"
        r"|embeddings\.position_ids"
    ),
    file=FILE,
    rules=one_table(DISTILBERT),
)
