"""BERT and JinaBERT, whose folders both say model_type "bert" or nothing."""

import re
from typing import Any

from jaxbert.checkpoint.config_json import config_and_family, not_used, raw_config
from jaxbert.checkpoint.model_types.model_type import ModelType, Names, Raw
from jaxbert.checkpoint.tensor_names import families
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.model.config import EncoderConfig


class BertFile:
    """config.json of a BERT or JinaBERT."""

    def read(self, raw: Raw, names: Names, ignore: Names) -> tuple[EncoderConfig, str]:
        """The config and family that config.json and the tensors' names agree on."""
        return config_and_family(raw, names, ignore)

    def write(self, config: EncoderConfig) -> tuple[dict[str, Any], str]:
        """config.json for an encoder, and its family; CheckpointError for what has no word."""
        return raw_config(config)

    def not_used(self, raw: Raw, names: Names) -> list[str]:
        """The keys that are accepted although nothing here reads them."""
        return not_used(raw, names)


def rules(config: EncoderConfig, family: str, names: Names) -> list[Rule]:
    """The table for one checkpoint, whatever the names of its tensors are."""
    return families.rules(family, config.feed_forward, config.position)


BERT = ModelType(
    title="BERT",
    words=(WORD,),
    base="bert",
    layers="encoder.layer.",
    layers_key="num_hidden_layers",
    not_needed=re.compile(
        r"pooler\.dense\.(weight|bias)|embeddings\.(position_ids|token_type_ids)"
        r"|cls\..+|classifier\..+|qa_outputs\..+|score\..+|linear\.weight"
    ),
    file=BertFile(),
    rules=rules,
)
