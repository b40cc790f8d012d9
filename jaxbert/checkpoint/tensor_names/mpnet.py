"""The tensors of MPNet; the table of buckets is shared by all layers.

Source: the state dict of transformers' MPNetModel.
"""

from jaxbert.checkpoint.tensor_names.bert import FROM_HEADS, HEADS, MLP, TO_HEADS
from jaxbert.checkpoint.tensor_names.rule import Rule, linear, norm, per_layer

MPNET = [
    Rule("embeddings.word_embeddings.weight", "embeddings.word", "v d -> v d"),
    Rule("embeddings.position_embeddings.weight", "position.first.table", "t d -> t d"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    Rule("encoder.relative_attention_bias.weight", "position.second.bias.table", "r n -> n r"),
    *per_layer(
        linear("attention.attn.q", "attention.query", TO_HEADS, HEADS),
        linear("attention.attn.k", "attention.key", TO_HEADS, HEADS),
        linear("attention.attn.v", "attention.value", TO_HEADS, HEADS),
        linear("attention.attn.o", "attention.out", FROM_HEADS, "d -> d"),
        norm("attention.LayerNorm", "attention_norm"),
    ),
    *MLP,
]
