"""The tensors of BERT, of which JinaBERT has most too.

Source: the state dict of transformers' BertModel.
"""

from jaxbert.checkpoint.tensor_names.rule import Rule, linear, norm, per_layer

TO_HEADS, FROM_HEADS, HEADS = "(n h) d -> d n h", "d (n h) -> n h d", "(n h) -> n h"

EMBEDDINGS = [
    Rule("embeddings.word_embeddings.weight", "embeddings.word", "v d -> v d"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings.token_type", "k d -> k d"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
]
LEARNED = [Rule("embeddings.position_embeddings.weight", "position.table", "t d -> t d")]

ATTENTION = per_layer(
    linear("attention.self.query", "attention.query", TO_HEADS, HEADS),
    linear("attention.self.key", "attention.key", TO_HEADS, HEADS),
    linear("attention.self.value", "attention.value", TO_HEADS, HEADS),
    linear("attention.output.dense", "attention.out", FROM_HEADS, "d -> d"),
    norm("attention.output.LayerNorm", "attention_norm"),
)

MLP = per_layer(
    linear("intermediate.dense", "feed_forward.up", "f d -> d f", "f -> f"),
    linear("output.dense", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("output.LayerNorm", "output_norm"),
)
