"""config.json of a Hugging Face folder -> EncoderConfig and family, or a refusal with its reason.

model_type is never a reason to accept: jina-embeddings-v2 says "bert" and is none. It is always a
reason to refuse: RoBERTa's tensors have BERT's names and another arithmetic.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxbert.checkpoint.config_keys import (
    is_plain,
    refuse_other_arithmetic,
    refuse_other_file,
    refuse_unknown,
    unknown,
)
from jaxbert.checkpoint.json_file import typed
from jaxbert.errors import CheckpointError, ConfigError, shown
from jaxbert.model.config import EncoderConfig

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    # Other names that transformers has for the same functions; a saved folder has one of the first.
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "swish": "silu",
}
POSITIONS = {"absolute": "learned", "alibi": "alibi"}
FEED_FORWARDS = {"original": "mlp", "geglu": "glu", "reglu": "glu"}
GATES = {"geglu": "gelu", "reglu": "relu"}

# Remote code that we know, by the repository that auto_map names.
CODE = {
    "jina-bert-v2-qk-post-norm": "jinabert-qk-post-norm",
    "jina-bert-v2-qk-devlin-norm-1e-2": "jinabert-qk-norm",
    "jina-bert-implementation": "jinabert",
}


def family_of(names: Collection[str]) -> str:
    """The family whose tensors these are, by those that no other family has."""
    first = "encoder.layer.0."
    if {f"{first}mlp.up_gated_layer.weight", f"{first}mlp.up_layer.weight"} & set(names):
        return "jinabert-qk-post-norm"
    if f"{first}attention.self.layer_norm_q.weight" in names:
        return "jinabert-qk-norm"
    return "jinabert" if f"{first}mlp.gated_layers.weight" in names else "bert"


def config_and_family(
    raw: Mapping[str, Any], names: Collection[str], ignore: Collection[str]
) -> tuple[EncoderConfig, str]:
    """Read config.json beside the tensors' names; both must tell the same story.

    names are without prefix. ignore lists keys that may be passed over unread. Raises
    CheckpointError.
    """
    refuse_other_file(raw)
    refuse_other_arithmetic(raw, ignore)
    if not is_plain(raw, family_of(names)):
        refuse_unknown(raw, ignore)
    position = choice(raw, "position_embedding_type", "absolute", POSITIONS)
    kind = raw.get("feed_forward_type", "original")
    feed_forward = choice(raw, "feed_forward_type", "original", FEED_FORWARDS)
    activation = choice(raw, "hidden_act", "gelu", ACTIVATIONS)
    family = agreed_family(raw, names, position, feed_forward, ignore)
    try:
        return EncoderConfig(
            vocab_size=required(raw, "vocab_size"),
            hidden_size=required(raw, "hidden_size"),
            num_layers=required(raw, "num_hidden_layers"),
            num_heads=required(raw, "num_attention_heads"),
            intermediate_size=required(raw, "intermediate_size"),
            type_vocab_size=raw.get("type_vocab_size", 2),
            max_positions=raw.get("max_position_embeddings", 512),
            position=position,
            feed_forward=feed_forward,
            feed_forward_bias=family != "jinabert-qk-post-norm",
            activation=GATES.get(kind, activation),
            query_key_norm=family in ("jinabert-qk-norm", "jinabert-qk-post-norm"),
            second_residual=family == "jinabert-qk-post-norm",
            layer_norm_eps=number(raw, "layer_norm_eps", 1e-12),
            initializer_range=number(raw, "initializer_range", 0.02),
            hidden_dropout=number(raw, "hidden_dropout_prob", 0.1),
            attention_dropout=number(raw, "attention_probs_dropout_prob", 0.1),
        ), family
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"config.json describes no encoder: {error}") from error


def not_used(raw: Mapping[str, Any], names: Collection[str]) -> tuple[str, ...]:
    """The keys, with their values, that nobody reads here and that may nevertheless stand there."""
    if not is_plain(raw, family_of(names)):
        return ()
    return tuple(f"{shown(key)[1:-1]} = {shown(raw[key])}" for key in unknown(raw, ()))


def raw_config(config: EncoderConfig) -> tuple[dict[str, Any], str]:
    """config.json for an encoder, with the keys that the published code needs, and its family.

    Raises CheckpointError for a choice that the file has no word for.
    """
    plain = config.position != "alibi" and config.feed_forward == "mlp"
    family = "bert" if plain else "jinabert"
    if config.query_key_norm:
        family = "jinabert-qk-post-norm" if config.second_residual else "jinabert-qk-norm"
    gates = {activation: gate for gate, activation in GATES.items()}
    kind: str | None = "original"
    if config.feed_forward == "glu":
        kind = gates.get(config.activation)
    raw = {
        "architectures": ["BertModel" if family == "bert" else "JinaBertModel"],
        "attention_probs_dropout_prob": config.attention_dropout,
        "hidden_act": word(ACTIVATIONS, "gelu" if kind in GATES else config.activation),
        "hidden_dropout_prob": config.hidden_dropout,
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "layer_norm_eps": config.layer_norm_eps,
        "max_position_embeddings": config.max_positions,
        "model_type": "bert",
        "num_attention_heads": config.num_heads,
        "num_hidden_layers": config.num_layers,
        "pad_token_id": 0,
        "position_embedding_type": word(POSITIONS, config.position),
        "type_vocab_size": config.type_vocab_size,
        "vocab_size": config.vocab_size,
    }
    if kind is None or None in raw.values():
        raise CheckpointError(
            f"a config.json has no words for {config.position} positions with a "
            f"{config.feed_forward} of {config.activation}; such an encoder cannot be saved"
        )
    if family == "bert":
        return raw, family
    code = next(code for code, own in CODE.items() if own == family)
    classes = {"AutoConfig": "configuration_bert.JinaBertConfig"}
    classes |= {"AutoModel": "modeling_bert.JinaBertModel"}
    return raw | {
        "_name_or_path": f"jinaai/{code}",
        "attn_implementation": "torch",
        "auto_map": {auto: f"jinaai/{code}--{name}" for auto, name in classes.items()},
        "emb_pooler": "mean",
        "feed_forward_type": kind,
    }, family


def word(table: Mapping[str, str], ours: str) -> str | None:
    """The first key that stands for our word."""
    return next((key for key, value in table.items() if value == ours), None)


def agreed_family(
    raw: Mapping[str, Any],
    names: Collection[str],
    position: str,
    feed_forward: str,
    ignore: Collection[str],
) -> str:
    """The family that config and tensors agree on."""
    found = family_of(names)
    gated = any(name.endswith((".gated_layers.weight", ".up_gated_layer.weight")) for name in names)
    if gated != (feed_forward == "glu"):
        kind = raw.get("feed_forward_type", "original")
        raise CheckpointError(
            f"config.json says feed_forward_type {kind!r}, but the tensors are those of a "
            f"{'gated' if gated else 'plain'} feed-forward: config.json and weights are of "
            "different models"
        )
    if found == "bert" and position == "alibi":
        found = "jinabert"
    named = named_code(raw, ignore)
    if named is not None and named != found:
        raise CheckpointError(
            f"auto_map in config.json names the code of {named}, but the tensors are those of "
            f"{found}: config.json and weights are of different models"
        )
    return found


def named_code(raw: Mapping[str, Any], ignore: Collection[str]) -> str | None:
    """The family of the remote code that auto_map names; None without one."""
    if "auto_map" in ignore:
        return None
    auto_map = typed(raw, "auto_map", Mapping, None, "config.json") or {}
    targets = {key: str(target) for key, target in auto_map.items() if key.startswith("Auto")}
    families = [code_family(target) for key, target in targets.items() if key != "AutoTokenizer"]
    found = {family for family in families if family is not None}
    if len(found) > 1:
        raise CheckpointError(f"auto_map in config.json names code of {', '.join(sorted(found))}")
    return found.pop() if found else None


def code_family(target: str) -> str | None:
    """The family of "owner/repository--file.Class"; None for a copy of JinaBERT under another name.

    Of a copy the tensors decide. Anything else is code that nobody here has read.
    """
    repository, _, code = target.rpartition("--")
    if not re.fullmatch(r"[\w/]*\.?JinaBert\w+", code):
        raise CheckpointError(
            f"auto_map in config.json names code that is not understood ({target}); if the model "
            'is a plain BERT or JinaBERT, pass ignore_config=("auto_map",)'
        )
    return CODE.get(repository.split("/")[-1])


def choice(raw: Mapping[str, Any], key: str, default: str, table: Mapping[str, str]) -> Any:
    """Our word for the value of key."""
    value = raw.get(key, default)
    if not isinstance(value, str) or value not in table:
        raise CheckpointError(
            f"config.json has {key} = {shown(value)}; understood are: {', '.join(table)}"
        )
    return table[value]


def number(raw: Mapping[str, Any], key: str, default: float) -> float:
    """A float, which JSON may write without a point."""
    value = typed(raw, key, int | float, default, "config.json")
    try:
        return float(value)
    except OverflowError as error:
        raise CheckpointError(
            f"config.json has {key} = {shown(value)}, which is too large; restore it"
        ) from error


def required(raw: Mapping[str, Any], key: str) -> Any:
    """The value of a key that has no default."""
    if key not in raw:
        raise CheckpointError(f"config.json has no {key}; restore the file from where it came")
    return raw[key]
