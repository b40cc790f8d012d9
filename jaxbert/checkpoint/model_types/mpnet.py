"""MPNet, such as all-mpnet-base-v2.

Source: transformers' MPNetConfig and MPNetModel.
"""

import re

from jaxbert.checkpoint.config_fields import Key
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.model_types.model_type import ModelType, NativeConfig, one_table
from jaxbert.checkpoint.model_types.roberta import COMMON, ENCODERS_ONLY, NOT_NEEDED, RowsKey
from jaxbert.checkpoint.tensor_names.mpnet import MPNET
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.model.families.mpnet import MpnetConfig

# Positions begin behind 1 in the published code, whatever the file says.
PADDING = Key("pad_token_id", "padding_id", 1)
ROWS = RowsKey("max_position_embeddings", "max_positions", 512, PADDING)
OTHERS = {"type_vocab_size", PADDING.name, ROWS.name}
FIELDS = (
    *(key for key in COMMON if key.name not in OTHERS),
    PADDING,
    ROWS,
    Key("relative_attention_num_buckets", "num_buckets", 32),
)
KEYS = ConfigKeys(
    "MPNet",
    read=frozenset(key.name for key in FIELDS) | {"auto_map", "architectures"},
    required={"model_type": ("mpnet",), "pad_token_id": (1, None), **ENCODERS_ONLY},
    classes=r"MPNet(Model|For[A-Z]\w*)",
)
FILE = NativeConfig(
    "mpnet", MpnetConfig, FIELDS, KEYS, {"model_type": "mpnet", "architectures": ["MPNetModel"]}
)


MPNET_TYPE = ModelType(
    title="MPNet",
    words=(WORD,),
    base="mpnet",
    layers="encoder.layer.",
    layers_key="num_hidden_layers",
    not_needed=re.compile(NOT_NEEDED),
    file=FILE,
    rules=one_table(MPNET),
)
