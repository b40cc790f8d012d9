"""nomic-bert, such as nomic-embed-text-v1.5, as its remote code names keys and tensors.

Source: nomic-ai/nomic-bert-2048, configuration_hf_nomic_bert.py and modeling_hf_nomic_bert.py.
"""

import re
from typing import Any

from jaxbert.checkpoint.config_fields import Key, NumberKey
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.model_types.model_type import ModelType, Names, NativeConfig, Raw, one_table
from jaxbert.checkpoint.tensor_names.nomic import LAYER, NOMIC
from jaxbert.checkpoint.tensor_names.spelling import WORD
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.families.nomic import NomicConfig

FIELDS = (
    Key("vocab_size", "vocab_size"),
    Key("n_embd", "hidden_size"),
    Key("n_layer", "num_layers"),
    Key("n_head", "num_heads"),
    Key("n_inner", "intermediate_size"),
    Key("type_vocab_size", "type_vocab_size"),
    Key("n_positions", "max_positions"),
    NumberKey("layer_norm_epsilon", "layer_norm_eps", 1e-5),
    NumberKey("initializer_range", "initializer_range", 0.02),
    NumberKey("rotary_emb_base", "rope_base"),
    NumberKey("resid_pdrop", "hidden_dropout", 0.0),
    NumberKey("attn_pdrop", "attention_dropout", 0.0),
)
KEYS = ConfigKeys(
    "nomic-bert",
    read=frozenset(key.name for key in FIELDS) | {"auto_map", "architectures"},
    required={
        "model_type": ("nomic_bert",),
        "activation_function": ("swiglu",),
        "prenorm": (False,),
        "parallel_block": (False, None),
        "causal": (False, None),
        "is_decoder": (False, None),
        "add_cross_attention": (False, None),
        "rotary_emb_fraction": (1.0,),
        "rotary_emb_interleaved": (False, None),
        "rotary_emb_scale_base": (None,),
        "rotary_scaling_factor": (None,),
        "use_rms_norm": (False, None),
        "qkv_proj_bias": (False,),
        "mlp_fc1_bias": (False,),
        "mlp_fc2_bias": (False,),
        "scale_attn_weights": (True, None),
        "scale_attn_by_inverse_layer_idx": (False, None),
    },
    classes=r"NomicBert(Model|For[A-Z]\w*)",
    # Training, how kernels are laid out, and how many rows the vocabulary was filled up to.
    harmless=frozenset(
        "embd_pdrop max_trained_positions pad_vocab_size_multiple use_flash_attn use_xentropy "
        "fused_bias_fc fused_dropout_add_ln dense_seq_output last_layer_subset "
        "reorder_and_upcast_attn summary_activation summary_first_dropout "
        "summary_proj_to_labels summary_type summary_use_proj".split()
    ),
)
CODE = r"nomic-ai/nomic-bert-2048--(configuration|modeling)_hf_nomic_bert\.NomicBert\w+"


class NomicFile(NativeConfig):
    """config.json of a nomic-bert, whose code is remote, so that each key must be known."""

    def read(self, raw: Raw, names: Names, ignore: Names) -> tuple[EncoderConfig, str]:
        """The config and family; CheckpointError for what is not understood."""
        if "hidden_size" in raw and "n_embd" not in raw:
            raise CheckpointError(
                "config.json is that of transformers' own nomic-bert (it has hidden_size for "
                "n_embd), which is not read here; put the published model's config.json in its "
                "place, if the sizes and rotary_emb_base there are those of this model"
            )
        self.keys.refuse_unknown(raw, ignore)
        return super().read(raw, names, ignore)

    def not_used(self, raw: Raw, names: Names) -> list[str]:
        """No key, for each is understood."""
        return []


def constants() -> dict[str, Any]:
    """What the file of every nomic-bert says."""
    auto_map = {
        "AutoConfig": "configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "modeling_hf_nomic_bert.NomicBertModel",
    }
    said = {key: allowed[0] for key, allowed in KEYS.required.items()}
    return said | {
        "architectures": ["NomicBertModel"],
        "auto_map": {key: f"nomic-ai/nomic-bert-2048--{name}" for key, name in auto_map.items()},
    }


FILE = NomicFile("nomic", NomicConfig, FIELDS, KEYS, constants(), code=CODE)


NOMIC_TYPE = ModelType(
    title="nomic-bert",
    words=(WORD,),
    base="bert",
    layers=LAYER,
    layers_key="n_layer",
    not_needed=re.compile(
        r"cls\..+|pooler\.dense\.(weight|bias)|classifier\..+"
        r"|embeddings\.(position_ids|token_type_ids)"
    ),
    file=FILE,
    rules=one_table(NOMIC),
)
