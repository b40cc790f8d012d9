"""T5 and mT5 encoders, also out of models that have a decoder, which is left aside.

Source: transformers' T5Config and T5EncoderModel.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxbert.checkpoint.config_fields import ACTIVATIONS, Key, NumberKey
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.json_file import typed
from jaxbert.checkpoint.model_types.model_type import ModelType, NativeConfig
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensor_names.t5 import ENCODER, GLU, MLP, WORDS, embeddings
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.families.t5 import T5Config

# What the file calls a feed-forward, and the keys that later versions write beside it.
PROJECTION, ACTIVATION, GATED = "feed_forward_proj", "dense_act_fn", "is_gated_act"


def feed_forward(raw: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether the feed-forward is gated, and transformers' name of its activation.

    feed_forward_proj is "ACT" or "gated-ACT", and "gated-gelu" means the tanh approximation;
    dense_act_fn and is_gated_act go before it, as in transformers.
    """
    default = "gated-gelu" if raw.get("model_type") == "mt5" else "relu"
    said = typed(raw, PROJECTION, str, default, "config.json")
    gate, _, name = said.rpartition("-")
    if gate not in ("", "gated"):
        raise CheckpointError(
            f"config.json has {PROJECTION} = {shown(said)}; understood is the name of an "
            'activation, or "gated-" before it'
        )
    derived = "gelu_new" if said == "gated-gelu" else name
    gated = typed(raw, GATED, bool, gate == "gated", "config.json")
    return gated, typed(raw, ACTIVATION, str, derived, "config.json")


class FeedForwardKey(Key):
    """feed_forward_proj, as the kind of feed-forward."""

    def read(self, raw: Mapping[str, Any]) -> str:
        """The word "glu" or "mlp"."""
        return "glu" if feed_forward(raw)[0] else "mlp"

    def write(self, config: Any) -> str:
        """The name of the activation, with "gated-" before it where the feed-forward is gated."""
        name = ActivationKey(ACTIVATION, "activation").write(config)
        return f"gated-{name}" if config.feed_forward == "glu" else name


class ActivationKey(Key):
    """dense_act_fn, or what feed_forward_proj says of the activation."""

    def read(self, raw: Mapping[str, Any]) -> str:
        """Our word for the activation."""
        name = feed_forward(raw)[1]
        if name not in ACTIVATIONS:
            raise CheckpointError(
                f"config.json has the activation {shown(name)}; understood are: "
                f"{', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[name]

    def write(self, config: Any) -> str:
        """transformers' name of the activation."""
        return next(name for name, own in ACTIVATIONS.items() if own == config.activation)


FIELDS = (
    Key("vocab_size", "vocab_size"),
    Key("d_model", "hidden_size"),
    Key("num_layers", "num_layers"),
    Key("num_heads", "num_heads"),
    Key("d_ff", "intermediate_size"),
    Key("d_kv", "head_width", 64),
    Key("relative_attention_num_buckets", "num_buckets", 32),
    Key("relative_attention_max_distance", "max_distance", 128),
    NumberKey("layer_norm_epsilon", "layer_norm_eps", 1e-6),
    NumberKey("dropout_rate", "hidden_dropout", 0.1),
    NumberKey("initializer_factor", "initializer_range", 1.0),
    FeedForwardKey(PROJECTION, "feed_forward"),
    ActivationKey(ACTIVATION, "activation"),
)
KEYS = ConfigKeys(
    "T5",
    read=frozenset(key.name for key in FIELDS) | {GATED, "auto_map", "architectures"},
    required={"model_type": ("t5", "mt5"), "is_decoder": (False, None)},
    classes="M?T5(EncoderModel|Model|ForConditionalGeneration|WithLMHeadModel)",
    harmless=frozenset(
        "is_encoder_decoder num_decoder_layers n_positions output_past scale_decoder_outputs "
        "tie_word_embeddings".split()
    ),
)


class T5File(NativeConfig):
    """config.json of a T5, which says of the feed-forward what three keys of it say."""

    def write(self, config: Any) -> tuple[dict[str, Any], str]:
        """config.json for an encoder, with is_gated_act beside feed_forward_proj."""
        raw, family = super().write(config)
        return dict(sorted((raw | {GATED: config.feed_forward == "glu"}).items())), family


FILE = T5File(
    "t5",
    T5Config,
    FIELDS,
    KEYS,
    {"model_type": "t5", "architectures": ["T5EncoderModel"], "pad_token_id": 0, "eos_token_id": 1},
    code=r"([\w./-]+--)?modeling_t5\.T5EncoderModel",
)


def rules(config: T5Config, family: str, names: Collection[str]) -> list[Rule]:
    """The table for one checkpoint, with the names that its word embeddings have."""
    return embeddings(names) + ENCODER + (GLU if config.feed_forward == "glu" else MLP)


T5 = ModelType(
    title="T5",
    words=WORDS,
    base="transformer",
    layers="encoder.block.",
    layers_key="num_layers",
    not_needed=re.compile(r"decoder\..+|lm_head\.weight"),
    file=FILE,
    rules=rules,
)
