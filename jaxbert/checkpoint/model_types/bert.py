"""BERT and JinaBERT, whose folders both say model_type "bert" or nothing."""

import re

from jaxbert.checkpoint.config_json import config_and_family, not_used, raw_config
from jaxbert.checkpoint.model_types.model_type import ModelType, Names
from jaxbert.checkpoint.tensor_names import families
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.model.config import EncoderConfig


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
    read=config_and_family,
    write=raw_config,
    rules=rules,
    not_used=not_used,
)
