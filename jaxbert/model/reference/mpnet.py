"""MPNet: BERT with RoBERTa's positions and T5's bias together, and without token types.

One table of buckets serves all layers. The bias is added after q k^T is divided by sqrt(h), which
T5 does not do. The names of an attention's tensors are its own.

MPNet: Song et al. 2020, arXiv:2004.09297, and transformers' modeling_mpnet.
"""

from jaxbert.model.reference.basics import Config, Tensor, Tensors, renamed
from jaxbert.model.reference.bert import DEFAULTS, embeddings, layers
from jaxbert.model.reference.positions import counted_positions, relative_bias

# parts of MPNet's names, and of BERT's for the same tensors
NAMES = {
    "attention.attn.q.": "attention.self.query.",
    "attention.attn.k.": "attention.self.key.",
    "attention.attn.v.": "attention.self.value.",
    "attention.attn.o.": "attention.output.dense.",
    "attention.LayerNorm.": "attention.output.LayerNorm.",
}
# numbers of the published code that config.json cannot change
PAD, MAX_DISTANCE = 1, 128


def mpnet_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and after each layer; types are not used."""
    config, tensors = {**DEFAULTS, **config}, renamed(tensors, NAMES)
    table = tensors["encoder.relative_attention_bias.weight"]
    bias = relative_bias(table, input_ids.shape[1], MAX_DISTANCE)
    x = embeddings(tensors, config, input_ids, None, counted_positions(input_ids, PAD))
    return layers(x, tensors, config, mask, bias, None)
