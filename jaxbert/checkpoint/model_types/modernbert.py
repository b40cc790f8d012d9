"""ModernBERT, such as gte-modernbert-base and modernbert-embed-base.

Source: transformers' ModernBertConfig and ModernBertModel; transformers 5 writes layer_types and
rope_parameters in place of older keys.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxbert.checkpoint.config_fields import ACTIVATIONS, Key, NumberKey, WordKey
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.json_file import typed
from jaxbert.checkpoint.model_types.model_type import ModelType, Names, NativeConfig, Raw, one_table
from jaxbert.checkpoint.tensor_names.modernbert import LAYER, MODERNBERT
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.modernbert import ModernBertConfig

GLOBAL, LOCAL = "full_attention", "sliding_attention"


class RopeKey(NumberKey):
    """The base of the rotary positions, by its own key or as rope_parameters says."""

    def read(self, raw: Mapping[str, Any]) -> float:
        """The base for the layers that this key is about."""
        kind = GLOBAL if self.name.startswith("global") else LOCAL
        parameters = typed(raw, "rope_parameters", Mapping | None, None, "config.json") or {}
        if not set(parameters) <= {GLOBAL, LOCAL}:
            raise CheckpointError(
                f"config.json has rope_parameters {shown(parameters)}; understood are those of "
                f"{GLOBAL} and of {LOCAL}, each under its name"
            )
        own = typed(parameters, kind, Mapping, None, "config.json")
        if own is None:
            return super().read(raw)
        if own.get("rope_type") != "default" or set(own) != {"rope_type", "rope_theta"}:
            raise CheckpointError(
                f"config.json has rope_parameters {shown(own)} for {kind}; understood is a "
                "rope_theta of rope_type default"
            )
        return NumberKey("rope_theta", self.field).read(own)


class WindowKey(Key):
    """local_attention, the width of a window: half of it is seen on each side."""

    def read(self, raw: Mapping[str, Any]) -> int:
        """How far a token of a local layer sees."""
        return int(typed(raw, self.name, int, self.default, "config.json")) // 2

    def write(self, config: Any) -> int:
        """The width of the window."""
        return 2 * int(config.local_distance)


FIELDS = (
    Key("vocab_size", "vocab_size"),
    Key("hidden_size", "hidden_size"),
    Key("num_hidden_layers", "num_layers"),
    Key("num_attention_heads", "num_heads"),
    Key("intermediate_size", "intermediate_size"),
    Key("max_position_embeddings", "max_positions", 8192),
    NumberKey("norm_eps", "layer_norm_eps", 1e-5),
    NumberKey("initializer_range", "initializer_range", 0.02),
    NumberKey("mlp_dropout", "hidden_dropout", 0.0),
    NumberKey("attention_dropout", "attention_dropout", 0.0),
    WordKey("hidden_activation", "activation", "gelu", ACTIVATIONS),
    Key("global_attn_every_n_layers", "global_every", 3),
    WindowKey("local_attention", "local_distance", 128),
    RopeKey("global_rope_theta", "global_rope_base", 160_000.0),
    RopeKey("local_rope_theta", "local_rope_base", 10_000.0),
)
KEYS = ConfigKeys(
    "ModernBERT",
    read=frozenset(key.name for key in FIELDS)
    | {"auto_map", "architectures", "layer_types", "rope_parameters"},
    required={
        "model_type": ("modernbert",),
        "is_decoder": (False, None),
        "norm_bias": (False, None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        # transformers 5 reads these two as well: other rotations, another width of the window.
        "rope_scaling": (None,),
        "sliding_window": (None,),
    },
    classes=r"ModernBert(Model|For[A-Z]\w*)",
    # Heads, training, how kernels are laid out; layer_norm_eps is not read, norm_eps is.
    harmless=frozenset(
        "classifier_activation classifier_bias classifier_pooling cls_token_id decoder_bias "
        "deterministic_flash_attn embedding_dropout initializer_cutoff_factor layer_norm_eps "
        "position_embedding_type reference_compile repad_logits_with_grad sparse_pred_ignore_index "
        "sparse_prediction".split()
    ),
)


class ModernBertFile(NativeConfig):
    """config.json of a ModernBERT, in which layer_types may say again which layers see all."""

    def read(self, raw: Raw, names: Names, ignore: Names) -> tuple[EncoderConfig, str]:
        """The config and family; CheckpointError for what is not understood."""
        config, family = super().read(raw, names, ignore)
        assert isinstance(config, ModernBertConfig), "made by this file"
        said = typed(raw, "layer_types", list, None, "config.json")
        layers = range(config.num_layers)
        if said is not None and said != [
            GLOBAL if i % config.global_every == 0 else LOCAL for i in layers
        ]:
            raise CheckpointError(
                f"config.json has layer_types {shown(said)}, which is not {GLOBAL} in every layer "
                f"that {config.global_every} divides and {LOCAL} in the others; not understood"
            )
        return config, family


FILE = ModernBertFile(
    "modernbert",
    ModernBertConfig,
    FIELDS,
    KEYS,
    # An encoder knows no tokenizer. Where its ids are absent, transformers takes those of the
    # published vocabulary, and fails on a smaller one.
    {"model_type": "modernbert", "architectures": ["ModernBertModel"]}
    | dict.fromkeys(f"{name}_token_id" for name in "bos cls eos pad sep".split()),
)


MODERNBERT_TYPE = ModelType(
    title="ModernBERT",
    words=("embeddings.tok_embeddings.weight",),
    base="model",
    layers=LAYER,
    layers_key="num_hidden_layers",
    not_needed=re.compile(r"(head|decoder|classifier)\..+"),
    file=FILE,
    rules=one_table(MODERNBERT),
)
