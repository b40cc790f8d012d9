"""DistilBERT: BERT by other names, without token types and without a pooler.

DistilBERT: Sanh et al. 2019, arXiv:1910.01108, section 3.
"""

import numpy as np

from jaxbert.model.reference.basics import Config, Tensor, Tensors, renamed
from jaxbert.model.reference.bert import embeddings, layers

# parts of DistilBERT's names, and of BERT's for the same tensors
NAMES = {
    "transformer.layer.": "encoder.layer.",
    "attention.q_lin.": "attention.self.query.",
    "attention.k_lin.": "attention.self.key.",
    "attention.v_lin.": "attention.self.value.",
    "attention.out_lin.": "attention.output.dense.",
    "sa_layer_norm.": "attention.output.LayerNorm.",
    "ffn.lin1.": "intermediate.dense.",
    "ffn.lin2.": "output.dense.",
    "output_layer_norm.": "output.LayerNorm.",
}


def distilbert_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and after each layer; types are not used."""
    bert_config = {
        "num_attention_heads": config["n_heads"],
        "num_hidden_layers": config["n_layers"],
        "hidden_act": config.get("activation", "gelu"),  # transformers' default
        "position_embedding_type": "absolute",
        "layer_norm_eps": 1e-12,  # fixed in the code
    }
    tensors, positions = renamed(tensors, NAMES), np.arange(input_ids.shape[1])
    x = embeddings(tensors, bert_config, input_ids, None, positions)
    return layers(x, tensors, bert_config, mask, None, None)
