"""sentence_bert_config.json of the Transformer: how long texts may be, and whether in lower case.

Source: sentence-transformers 6.2, and the older names of the file, which it still reads.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import optional, read_object, typed, write
from jaxbert.checkpoint.sentence_transformers.keys import check_keys
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import LARGEST, EncoderConfig

TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What is passed on to transformers' classes, by its old and its new names.
ARGUMENTS = tuple(
    "model_args tokenizer_args config_args model_kwargs processor_kwargs config_kwargs".split()
)


# Tokens of a text where neither the model nor any file says how many: those of T5's training.
# Source: Raffel et al., arXiv:1910.10683, section 3.1.2.
UNSAID = 512
# What the Transformer of an embedder says that it is and gives.
EMBEDS = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "method": "forward",
    "method_output_name": "last_hidden_state",
}


def read_transformer(
    folder: Path,
    ignore: Collection[str],
    task: Mapping[str, str] = EMBEDS,
    further: Collection[str] = (),
) -> dict[str, Any]:
    """sentence_bert_config.json, or the first of its old names that is there.

    task is what it must say, where it says anything, of what the Transformer does; further are keys
    that the caller reads.
    """
    for name in TRANSFORMER_FILES:
        if is_there(folder / name):
            raw = read_object(folder / name)
            break
    else:
        return {}
    for key in ARGUMENTS:
        given = typed(raw, key, Mapping, {}, folder / name) or {}
        # Permission to run code, which is never asked for here; the tensors decide what this is.
        raw[key] = {k: value for k, value in given.items() if k != "trust_remote_code"}
    settings = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config"}
    settings |= {"unpad_inputs"}  # how a batch is laid out, not what is computed
    check_keys(raw, folder / name, settings | {"module_output_name", *further}, ignore)
    modalities = typed(raw, "modality_config", Mapping, {}, folder / name)
    text = typed(modalities, "text", Mapping, {}, folder / name)
    said = {
        "transformer_task": raw.get("transformer_task"),
        "module_output_name": raw.get("module_output_name"),
        "method": text.get("method"),
        "method_output_name": text.get("method_output_name"),
    }
    for key, value in said.items():
        if value not in (None, task[key]):
            raise CheckpointError(
                f"{folder / name} has {key} = {shown(value)}; only {task[key]!r} is understood"
            )
    return raw


def max_length(
    folder: Path, transformer: Mapping[str, Any], config: EncoderConfig, ignore: Collection[str]
) -> int:
    """max_seq_length where given; else the smaller of the tokenizer's and the config's length."""
    given = typed(transformer, "max_seq_length", int | float | None, None, folder)
    if given is None or "max_seq_length" in ignore:
        own = optional(folder / "tokenizer_config.json")
        length = typed(own, "model_max_length", int | float | None, None, folder)
        given = config.max_positions if length is None else min(length, config.max_positions)
        given = given if given < LARGEST else UNSAID
    if given != int(given) or not 1 <= given <= LARGEST:
        raise CheckpointError(
            f"{folder} has the maximum length {shown(given)}; it must be a whole number from 1"
        )
    if config.position == "learned" and given > config.max_positions:
        raise CheckpointError(
            f"{folder} has max_seq_length = {int(given)}, but the model has {config.max_positions} "
            'positions; lower it in the file, or pass ignore_config=("max_seq_length",) to cut '
            "texts there"
        )
    return int(given)


def write_transformer(folder: Path, max_length: int, lower_case: bool) -> None:
    """Write the newest name of the file, with the two keys that every version reads."""
    settings = {"max_seq_length": max_length, "do_lower_case": lower_case}
    write(folder / TRANSFORMER_FILES[0], settings)
