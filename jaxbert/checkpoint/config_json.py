"""config.json of a BERT or JinaBERT <-> EncoderConfig and family, or a refusal with its reason.

model_type can only rule a folder out: "bert" proves nothing, for JinaBERT says it too.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxbert.checkpoint.config_fields import (
    ACTIVATION,
    FEED_FORWARD,
    GATES,
    KEYS,
    NUMBERS,
    POSITION,
)
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.family import CODE, agreed_family, family_of
from jaxbert.checkpoint.json_file import typed
from jaxbert.errors import CheckpointError, ConfigError
from jaxbert.model.config import EncoderConfig

BERT_KEYS = ConfigKeys(
    "BERT and JinaBERT",
    read=frozenset(key.name for key in KEYS) | {"auto_map", "architectures"},
    required={
        "model_type": ("bert", None),
        "is_decoder": (False, None),
        "is_encoder_decoder": (False, None),
        "add_cross_attention": (False, None),
        "pruned_heads": ({}, None),
        "alibi_scaling": (None, 1, False),
        "emb_pooler": (None, "mean"),
    },
    classes=r"(Jina)?Bert(Model|LMHeadModel|For[A-Z]\w*)|HF_ColBERT",
)
# Keys that only remote code reads.
REMOTE = ("auto_map", "alibi_scaling", "emb_pooler")
# What the layers of these families have and no key of config.json says.
VARIANTS: Mapping[str, Mapping[str, bool]] = {
    "jinabert-qk-norm": {"query_key_norm": True},
    "jinabert-qk-post-norm": {
        "query_key_norm": True,
        "second_residual": True,
        "feed_forward_bias": False,
    },
}


def is_plain(raw: Mapping[str, Any], family: str) -> bool:
    """Whether this is a BERT of transformers' own classes, by all that config and tensors say."""
    if family != "bert" or any(raw.get(key) for key in REMOTE):
        return False
    classes = typed(raw, "architectures", list, None, "config.json") or ()
    own = all(str(name).startswith("Bert") for name in classes)
    feed_forward = raw.get("feed_forward_type", "original")
    position = raw.get("position_embedding_type", "absolute")
    return own and feed_forward == "original" and position == "absolute"


def config_and_family(
    raw: Mapping[str, Any], names: Collection[str], ignore: Collection[str]
) -> tuple[EncoderConfig, str]:
    """The config and family that config.json and the tensors' names agree on.

    names are without prefix. ignore lists keys that may be passed over unread. Raises
    CheckpointError.
    """
    BERT_KEYS.refuse_other_arithmetic(raw, ignore)
    if not is_plain(raw, family_of(names)):
        BERT_KEYS.refuse_unknown(raw, ignore)
    position, feed_forward = POSITION.read(raw), FEED_FORWARD.read(raw)
    activation = ACTIVATION.read(raw)
    family = agreed_family(raw, names, position, feed_forward, ignore)
    try:
        return EncoderConfig(
            **{key.field: key.read(raw) for key in NUMBERS},
            **VARIANTS.get(family, {}),
            position=position,
            feed_forward=feed_forward,
            # A gated feed-forward has the activation of its gate, whatever hidden_act says.
            activation=GATES.get(raw.get(FEED_FORWARD.name, ""), activation),
        ), family
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"config.json describes no encoder: {error}") from error


def not_used(raw: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """The keys that are accepted although nothing here reads them."""
    return BERT_KEYS.unknown(raw, ()) if is_plain(raw, family_of(names)) else []


def family_for(config: EncoderConfig) -> str:
    """The family whose published code computes this config, if any does."""
    if config.query_key_norm:
        return "jinabert-qk-post-norm" if config.second_residual else "jinabert-qk-norm"
    plain = config.position != "alibi" and config.feed_forward == "mlp"
    return "bert" if plain else "jinabert"


def remote_keys(family: str) -> dict[str, Any]:
    """The keys by which transformers finds the remote code of a JinaBERT family.

    Differs: published files also say model_type "bert", by which transformers takes its own BERT
    where remote code is not trusted, and draws what that needs at random; without the key it asks
    for trust_remote_code. Their attn_implementation "torch" is what absence means to the remote
    code, and transformers 5 refuses it.
    """
    code = next(code for code, own in CODE.items() if own == family)
    classes = {"AutoConfig": "configuration_bert.JinaBertConfig"}
    classes |= {"AutoModel": "modeling_bert.JinaBertModel"}
    return {
        "_name_or_path": f"jinaai/{code}",
        "auto_map": {auto: f"jinaai/{code}--{name}" for auto, name in classes.items()},
        "emb_pooler": "mean",
    }


def raw_config(config: EncoderConfig) -> tuple[dict[str, Any], str]:
    """config.json for an encoder, with the keys that the published code needs, and its family.

    Raises CheckpointError for a choice that the file has no word for.
    """
    family = family_for(config)
    raw = {key.name: key.write(config) for key in (*NUMBERS, POSITION, ACTIVATION)}
    raw["pad_token_id"] = 0
    raw["architectures"] = ["BertModel" if family == "bert" else "JinaBertModel"]
    kind = FEED_FORWARD.write(config)
    if config.feed_forward == "glu":
        # The gate is part of feed_forward_type, and hidden_act is not read.
        kind = next((gate for gate, own in GATES.items() if own == config.activation), None)
        raw[ACTIVATION.name] = "gelu"
    if kind is None or None in raw.values():
        raise CheckpointError(
            f"a config.json has no words for {config.position} positions with a "
            f"{config.feed_forward} of {config.activation}; such an encoder cannot be saved"
        )
    if family == "bert":
        return dict(sorted((raw | {"model_type": "bert"}).items())), family
    return dict(sorted(raw.items())) | remote_keys(family) | {FEED_FORWARD.name: kind}, family
