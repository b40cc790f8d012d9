"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT, but for the positions.

Positions are counted from pad_token_id + 1 on, over the tokens that are no pad; so the table has
two rows more than the longest text where the pad is 1. There is one token type.

RoBERTa: Liu et al. 2019, arXiv:1907.11692.  XLM-R: Conneau et al. 2019, arXiv:1911.02116.
"""

from jaxbert.model.reference.basics import Config, Tensor, Tensors
from jaxbert.model.reference.bert import DEFAULTS as BERT_DEFAULTS
from jaxbert.model.reference.bert import embeddings, layers
from jaxbert.model.reference.positions import counted_positions

# transformers' defaults, for a config.json that does not say it
DEFAULTS = {**BERT_DEFAULTS, "pad_token_id": 1}


def roberta_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and after each layer."""
    config = {**DEFAULTS, **config}
    positions = counted_positions(input_ids, config["pad_token_id"])
    x = embeddings(tensors, config, input_ids, types, positions)
    return layers(x, tensors, config, mask, None, None)
