"""The tensors of DistilBERT.

Source: the state dict of transformers' DistilBertModel.
"""

from jaxbert.checkpoint.tensor_names.bert import FROM_HEADS, HEADS, TO_HEADS
from jaxbert.checkpoint.tensor_names.rule import Rule, linear, norm, per_layer

LAYER = "transformer.layer."
DISTILBERT = [
    Rule("embeddings.word_embeddings.weight", "embeddings.word", "v d -> v d"),
    Rule("embeddings.position_embeddings.weight", "position.table", "t d -> t d"),
    *norm("embeddings.LayerNorm", "embeddings.norm"),
    *per_layer(
        linear("attention.q_lin", "attention.query", TO_HEADS, HEADS),
        linear("attention.k_lin", "attention.key", TO_HEADS, HEADS),
        linear("attention.v_lin", "attention.value", TO_HEADS, HEADS),
        linear("attention.out_lin", "attention.out", FROM_HEADS, "d -> d"),
        norm("sa_layer_norm", "attention_norm"),
        linear("ffn.lin1", "feed_forward.up", "f d -> d f", "f -> f"),
        linear("ffn.lin2", "feed_forward.down", "d f -> f d", "d -> d"),
        norm("output_layer_norm", "output_norm"),
        under=LAYER,
    ),
]
