"""The specification: each family of encoders in float64 NumPy, to be read beside the papers.

Everything else in this package is measured against these files, and they are measured against
stored outputs of third-party torch code (tests/golden). They import nothing else of jaxbert, are
written for eyes and not for speed, and take a checkpoint's tensors by their published names.

To read in this order: basics, positions, bert; then any of roberta, mpnet, distilbert, nomic, t5
and modernbert, each of which says what differs from BERT; encoder, heads and late_interaction.
"""

from jaxbert.model.reference.basics import (
    ACTIVATIONS,
    attention,
    gelu,
    gelu_tanh,
    layer_norm,
    linear,
    mean_pool,
    norm,
    relu,
    rms_norm,
    silu,
    softmax,
)
from jaxbert.model.reference.bert import feed_forward
from jaxbert.model.reference.encoder import block_states, encode
from jaxbert.model.reference.heads import classification_logits, masked_language_logits, pooled
from jaxbert.model.reference.positions import (
    alibi,
    alibi_slopes,
    counted_positions,
    relative_bias,
    relative_buckets,
    rotary,
)

__all__ = [
    "ACTIVATIONS",
    "alibi",
    "alibi_slopes",
    "attention",
    "block_states",
    "classification_logits",
    "counted_positions",
    "encode",
    "feed_forward",
    "gelu",
    "gelu_tanh",
    "layer_norm",
    "linear",
    "masked_language_logits",
    "mean_pool",
    "norm",
    "pooled",
    "relative_bias",
    "relative_buckets",
    "relu",
    "rms_norm",
    "rotary",
    "silu",
    "softmax",
]
