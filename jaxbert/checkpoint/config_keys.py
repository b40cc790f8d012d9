"""The keys of config.json: which may stand there unread, which values tell of another model.

In a folder whose code is transformers' own, a key that transformers' BertConfig and BertModel do
not read cannot have changed the vectors that were published: it may stand there. What remote code
does with a key nobody knows, so there each key must be known.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxbert.checkpoint.config_fields import KEYS
from jaxbert.checkpoint.json_file import typed
from jaxbert.errors import CheckpointError, shown

# Keys that must have one of these values, for any other changes the arithmetic. An absent key is
# fine: the value that the published code then takes is the first one here.
REQUIRED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("bert", None),
    "is_decoder": (False, None),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "pruned_heads": ({}, None),
    "alibi_scaling": (None, 1, False),
    "emb_pooler": (None, "mean"),
}
# Keys that are read.
HANDLED = frozenset(key.name for key in KEYS) | {"auto_map", "architectures"}
# Keys that do not touch the arithmetic of the encoder: training, generation, heads, bookkeeping.
HARMLESS = frozenset(
    "_name_or_path _commit_hash transformers_version torch_dtype dtype classifier_dropout "
    "gradient_checkpointing use_cache attn_implementation _attn_implementation model_max_length "
    "id2label label2id problem_type finetuning_task task_specific_params return_dict "
    "output_attentions output_hidden_states torchscript tie_word_embeddings tie_encoder_decoder "
    "chunk_size_feed_forward tokenizer_class bos_token_id pad_token_id eos_token_id sep_token_id "
    "decoder_start_token_id max_length min_length do_sample early_stopping num_beams "
    "num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty "
    "length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences "
    "output_scores return_dict_in_generate remove_invalid_values tf_legacy_loss use_bfloat16 "
    "sentence_transformers directionality pooler_fc_size pooler_num_attention_heads "
    "pooler_num_fc_layers pooler_size_per_head pooler_type".split()
)
# Keys on which transformers acts whatever the model, and nothing here does.
ACTING = (
    "quantization_config compression_config per_layer_config transformers_weights fusion_config"
).split()
# Keys that only remote code reads.
REMOTE = ("auto_map", "alibi_scaling", "emb_pooler")
# Keys that only the config.json of a sentence-transformers module has, and what module that is.
OTHERS = {
    "word_embedding_dimension": "a Pooling module",
    "pooling_mode": "a Pooling module",
    "embedding_dimension": "a Pooling module",
    "in_features": "a Dense module",
    "module_input_name": "a module",
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


def says_nothing(value: Any) -> bool:
    """Whether a value is null, false or empty, and so says what an absent key would."""
    return value is None or value is False or value in ("", [], {})


def unknown(raw: Mapping[str, Any], ignore: Collection[str]) -> list[str]:
    """The keys that say something and that nobody here has read about."""
    known = HANDLED | HARMLESS | frozenset(REQUIRED) | frozenset(ignore)
    return [key for key, value in raw.items() if key not in known and not says_nothing(value)]


def refuse_unknown(raw: Mapping[str, Any], ignore: Collection[str]) -> None:
    """A key that nobody here has read about may change every number."""
    for key in unknown(raw, ignore):
        raise CheckpointError(
            f"config.json has {key} = {shown(raw[key])}, which is not understood; if it does not "
            f'change the arithmetic, pass ignore_config=("{key}",)'
        )


def refuse_other_file(raw: Mapping[str, Any]) -> None:
    """A config.json that is of another part of a model, as uploads that lose folders leave it."""
    for key, what in OTHERS.items():
        if key in raw and "hidden_size" not in raw:
            raise CheckpointError(
                f"config.json is that of {what}, not of a model (it has {key}): the folder lost "
                "its sub-folders; fetch it again with them"
            )


def refuse_other_arithmetic(raw: Mapping[str, Any], ignore: Collection[str]) -> None:
    """Values that say: this is another model, whatever its tensors are called."""
    for key, allowed in REQUIRED.items():
        value = raw.get(key, allowed[0])
        if not any(value == good and type(value) in (type(good), int) for good in allowed):
            raise CheckpointError(
                f"config.json has {key} = {shown(value)}; only BERT and JinaBERT encoders are "
                f"implemented here, where it is {allowed[0]!r}"
            )
    for key in ACTING:
        if key not in ignore and not says_nothing(raw.get(key)):
            raise CheckpointError(
                f"config.json has {key} = {shown(raw[key])}, which changes how the weights are "
                f'used; if it does not, pass ignore_config=("{key}",)'
            )
    for name in typed(raw, "architectures", list, None, "config.json") or ():
        if not re.fullmatch(r"(Jina)?Bert(Model|LMHeadModel|For[A-Z]\w*)|HF_ColBERT", str(name)):
            raise CheckpointError(
                f"config.json names the architecture {shown(name)}; only Bert... and JinaBert... "
                "encoders are implemented here"
            )
