"""The tensors of ModernBERT; layer 0 has no norm before its attention.

Source: the state dict of transformers' ModernBertModel.
"""

from jaxbert.checkpoint.tensor_names.bert import FROM_HEADS, TO_HEADS
from jaxbert.checkpoint.tensor_names.nomic import QUERY_KEY_VALUE
from jaxbert.checkpoint.tensor_names.rule import Rule, joined, linear, per_layer, scale

LAYER = "layers."
MODERNBERT = [
    Rule("embeddings.tok_embeddings.weight", "embeddings.word", "v d -> v d"),
    *scale("embeddings.norm", "embeddings.norm"),
    *scale("final_norm", "final_norm"),
    *per_layer(
        [Rule("attn_norm.weight", "attention_norm.scale", "d -> d", first_layer=1)],
        joined("attn.Wqkv.weight", QUERY_KEY_VALUE, TO_HEADS),
        linear("attn.Wo", "attention.out", FROM_HEADS),
        scale("mlp_norm", "feed_forward_norm"),
        linear("mlp.Wi", "feed_forward.up", "(g f) d -> d g f"),
        linear("mlp.Wo", "feed_forward.down", "d f -> f d"),
        under=LAYER,
    ),
]
