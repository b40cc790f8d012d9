"""RoBERTa, XLM-R and CamemBERT: BERT's tensors with other positions.

Source: transformers' XLMRobertaConfig and XLMRobertaModel.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxbert.checkpoint.config_fields import ACTIVATION, NUMBERS, Key
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.model_types.model_type import ModelType, NativeConfig, one_table
from jaxbert.checkpoint.tensor_names.bert import ATTENTION, EMBEDDINGS, LEARNED, MLP
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.families.roberta import RobertaConfig


class PaddingKey(Key):
    """pad_token_id, behind which positions begin."""

    def read(self, raw: Mapping[str, Any]) -> int:
        """The id of padding; CheckpointError for that of BERT, and where none is said."""
        value = raw.get(self.name)
        if type(value) is not int or value < 1:
            raise CheckpointError(
                f"config.json has {self.name} = {shown(value)}; positions of a RoBERTa or XLM-R "
                "begin behind the id of padding, which is 1 in published models and 0 in a BERT: "
                "restore it"
            )
        return value


PADDING = PaddingKey("pad_token_id", "padding_id")


@dataclass(frozen=True)
class RowsKey(Key):
    """max_position_embeddings, the rows of the table, of which the first ones are no positions."""

    padding: Key = PADDING

    def read(self, raw: Mapping[str, Any]) -> int:
        """The number of tokens that a text may have."""
        rows, first = raw.get(self.name, self.default), self.padding.read(raw) + 1
        if type(rows) is not int or rows <= first:
            raise CheckpointError(
                f"config.json has {self.name} = {shown(rows)}; the table has {first} rows before "
                "that of the first token: restore it"
            )
        return rows - first

    def write(self, config: Any) -> int:
        """The rows of the table."""
        return int(config.position_rows)


ROWS = RowsKey("max_position_embeddings", "max_positions", 512)
COMMON = (*(ROWS if key.name == ROWS.name else key for key in NUMBERS), ACTIVATION, PADDING)
# What must hold of every BERT-like encoder of transformers' own.
ENCODERS_ONLY: Mapping[str, tuple[Any, ...]] = {
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "position_embedding_type": ("absolute", None),
}
KEYS = ConfigKeys(
    "RoBERTa and XLM-R",
    read=frozenset(key.name for key in COMMON) | {"auto_map", "architectures"},
    required={
        "model_type": ("xlm-roberta", "roberta", "camembert"),
        **ENCODERS_ONLY,
    },
    classes=r"(XLMRoberta|Roberta|Camembert)(Model|LMHeadModel|For[A-Z]\w*)",
    harmless=frozenset({"output_past"}),
)
FILE = NativeConfig(
    "roberta",
    RobertaConfig,
    COMMON,
    KEYS,
    {
        "model_type": "xlm-roberta",
        "architectures": ["XLMRobertaModel"],
        "position_embedding_type": "absolute",
    },
)
NOT_NEEDED = (
    r"pooler\.dense\.(weight|bias)|embeddings\.(position_ids|token_type_ids)"
    r"|lm_head\..+|classifier\..+|qa_outputs\..+"
)


ROBERTA = ModelType(
    title="RoBERTa or XLM-R",
    words=(WORD,),
    base="roberta",
    layers="encoder.layer.",
    layers_key="num_hidden_layers",
    not_needed=re.compile(NOT_NEEDED),
    file=FILE,
    rules=one_table(EMBEDDINGS + LEARNED + ATTENTION + MLP),
)
