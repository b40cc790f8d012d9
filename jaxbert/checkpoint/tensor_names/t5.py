"""The tensors of T5's encoder; the table of buckets stands in block 0 and is shared by all.

Source: the state dict of transformers' T5EncoderModel.
"""

from collections.abc import Collection

from jaxbert.checkpoint.tensor_names.bert import FROM_HEADS, TO_HEADS
from jaxbert.checkpoint.tensor_names.rule import Rule, linear, per_layer, scale

# Two names of one table; files have either, or both with equal numbers.
WORDS = ("shared.weight", "encoder.embed_tokens.weight")
BLOCK = "encoder.block."
BIAS = "SelfAttention.relative_attention_bias.weight"

ENCODER = [
    *scale("encoder.final_layer_norm", "final_norm"),
    Rule(f"{BLOCK}0.layer.0.{BIAS}", "position.bias.table", "r n -> n r"),
    *per_layer(
        linear("layer.0.SelfAttention.q", "attention.query", TO_HEADS),
        linear("layer.0.SelfAttention.k", "attention.key", TO_HEADS),
        linear("layer.0.SelfAttention.v", "attention.value", TO_HEADS),
        linear("layer.0.SelfAttention.o", "attention.out", FROM_HEADS),
        scale("layer.0.layer_norm", "attention_norm"),
        linear("layer.1.DenseReluDense.wo", "feed_forward.down", "d f -> f d"),
        scale("layer.1.layer_norm", "feed_forward_norm"),
        under=BLOCK,
    ),
]
UP = "layer.1.DenseReluDense"
MLP = per_layer(linear(f"{UP}.wi", "feed_forward.up", "f d -> d f"), under=BLOCK)
GLU = per_layer(
    [
        Rule(f"{UP}.wi_0.weight", "feed_forward.up.weight", "f d -> d f", half=0),  # the gate
        Rule(f"{UP}.wi_1.weight", "feed_forward.up.weight", "f d -> d f", half=1),
    ],
    under=BLOCK,
)


def embeddings(names: Collection[str]) -> list[Rule]:
    """The rule of the word embeddings for each name that they have, the first one at least."""
    there = [word for word in WORDS if word in names] or [WORDS[0]]
    return [Rule(word, "embeddings.word", "v d -> v d") for word in there]
