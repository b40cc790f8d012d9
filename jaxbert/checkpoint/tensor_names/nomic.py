"""The tensors of nomic-bert, which has queries, keys and values in one.

Source: the state dict of the remote code nomic-ai/nomic-bert-2048.
"""

from jaxbert.checkpoint.tensor_names.bert import FROM_HEADS, TO_HEADS
from jaxbert.checkpoint.tensor_names.rule import Rule, joined, linear, norm, per_layer

QUERY_KEY_VALUE = tuple(f"attention.{name}.weight" for name in ("query", "key", "value"))
LAYER = "encoder.layers."
NOMIC = [
    Rule("embeddings.word_embeddings.weight", "embeddings.word", "v d -> v d"),
    Rule("embeddings.token_type_embeddings.weight", "embeddings.token_type", "k d -> k d"),
    *norm("emb_ln", "embeddings.norm"),
    *per_layer(
        joined("attn.Wqkv.weight", QUERY_KEY_VALUE, TO_HEADS),
        linear("attn.out_proj", "attention.out", FROM_HEADS),
        norm("norm1", "attention_norm"),
        [
            Rule("mlp.fc12.weight", "feed_forward.up.weight", "f d -> d f", half=0),  # the gate
            Rule("mlp.fc11.weight", "feed_forward.up.weight", "f d -> d f", half=1),
        ],
        linear("mlp.fc2", "feed_forward.down", "d f -> f d"),
        norm("norm2", "output_norm"),
        under=LAYER,
    ),
]
