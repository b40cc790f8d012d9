"""The tensors that JinaBERT has and BERT has not.

Source: the state dicts of JinaBERT's remote code (jinaai/jina-bert-implementation,
jinaai/jina-bert-v2-qk-post-norm).
"""

from jaxbert.checkpoint.tensor_names.bert import HEADS
from jaxbert.checkpoint.tensor_names.rule import Rule, linear, norm, per_layer

QUERY_KEY_NORM = per_layer(
    norm("attention.self.layer_norm_q", "attention.query_norm", HEADS),
    norm("attention.self.layer_norm_k", "attention.key_norm", HEADS),
)
SECOND_RESIDUAL = per_layer(norm("layer_norm_1", "rejoin.norm"))

GLU_GATE_FIRST = per_layer(
    linear("mlp.gated_layers", "feed_forward.up", "(g f) d -> d g f"),
    linear("mlp.wo", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("mlp.layernorm", "output_norm"),
)
GLU_GATE_LAST = per_layer(
    [Rule("mlp.up_gated_layer.weight", "feed_forward.up.weight", "(g f) d -> d g f", flipped="g")],
    linear("mlp.down_layer", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("layer_norm_2", "output_norm"),
)
MLP_WITHOUT_BIAS = per_layer(
    linear("mlp.up_layer", "feed_forward.up", "f d -> d f"),
    linear("mlp.down_layer", "feed_forward.down", "d f -> f d", "d -> d"),
    norm("layer_norm_2", "output_norm"),
)
