"""The rest of a sentence-transformers folder -> Stack: what happens to the token states.

Source: sentence-transformers 6.2, config_sentence_transformers.json and the modules of modules.py.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.json_file import optional, typed
from jaxbert.checkpoint.sentence_transformers.modules_json import (
    read_dense,
    read_modules,
    read_normalize,
    read_pooling,
    read_transformer,
    unread,
)
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import LARGEST, EncoderConfig
from jaxbert.model.head import Dense, Normalize, Pooling

log = logging.getLogger(__name__)

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclass(frozen=True)
class Stack:
    """Everything about a model that is neither the encoder nor the tokenizer's vocabulary."""

    pooling: Pooling = field(default_factory=Pooling)
    after: tuple[Dense | Normalize, ...] = ()
    max_length: int = 512  # tokens of a text, special tokens included; longer texts are truncated
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=lambda: {"query": "", "document": ""})
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None
    # Keys of the folder's files that were taken and change nothing.
    not_used: tuple[str, ...] = field(default=(), compare=False)

    def width(self, hidden_size: int) -> int:
        """The features of a vector before truncate_dim."""
        width = hidden_size * len(self.pooling.modes)
        for step in self.after:
            width = step.weight.shape[0] if isinstance(step, Dense) else width
        return width


def read_stack(folder: Path, config: EncoderConfig, ignore_config: Collection[str] = ()) -> Stack:
    """The stack of a folder; without modules.json: mean pooling, not normalised.

    config gives the width of the states, and the length where nothing else says one.
    ignore_config names keys of the files that may be passed over. Raises CheckpointError for a
    module, mode or value that is not understood.
    """
    modules = read_modules(folder)
    transformer = read_transformer(modules[0][1], ignore_config)
    pooling = Pooling()
    after: list[Dense | Normalize] = []
    for kind, path in modules[1:]:
        if kind == "Pooling":
            pooling = read_pooling(path, ignore_config)
        elif kind == "Dense":
            after.append(read_dense(path, ignore_config))
        elif kind == "Normalize":
            after.append(read_normalize(path, ignore_config))
        elif kind != "Dropout":  # which does nothing at inference
            raise CheckpointError(
                f"{folder}/modules.json has a module of type {kind}, which is not implemented; "
                "understood are Transformer, Pooling, Dense, Normalize and Dropout"
            )
    check_widths(pooling, after, config.hidden_size, folder)
    stack = Stack(
        pooling=pooling,
        after=tuple(after),
        max_length=max_length(modules[0][1], transformer, config, ignore_config),
        lower_case=typed(transformer, "do_lower_case", bool, False, folder),
        **read_settings(folder / SETTINGS_FILE, ignore_config),
    )
    width = stack.width(config.hidden_size)
    if stack.truncate_dim is not None and not 1 <= stack.truncate_dim <= width:
        raise CheckpointError(
            f"{folder / SETTINGS_FILE} has truncate_dim = {shown(stack.truncate_dim)}, but vectors "
            f"have {width} features; it must be 1 to {width}, or null"
        )
    return stack


def check_widths(
    pooling: Pooling, after: list[Dense | Normalize], hidden_size: int, folder: Path
) -> None:
    """Each Dense module must take vectors as wide as they come."""
    width = hidden_size * len(pooling.modes)
    for step in after:
        if isinstance(step, Dense):
            if step.weight.shape[1] != width:
                raise CheckpointError(
                    f"a Dense module of {folder} takes {step.weight.shape[1]} features, but the "
                    f"vectors before it have {width}: they are of different models"
                )
            width = step.weight.shape[0]


SETTINGS_FILE = "config_sentence_transformers.json"
SETTINGS = frozenset(
    "__version__ prompts default_prompt_name similarity_fn_name truncate_dim model_type".split()
)


def read_settings(file: Path, ignore: Collection[str]) -> dict[str, Any]:
    """Prompts, similarity and truncation of config_sentence_transformers.json.

    Other keys sentence-transformers passes over too, so they have not changed published vectors.
    """
    raw = optional(file)
    if {"repository", "commit", "files"} <= raw.keys():
        raise CheckpointError(
            f"{file} holds what a SOURCE.json of convert/from_hub.py holds; fetch the folder again"
        )
    others = unread(raw, {*SETTINGS, *ignore})
    if others:
        log.info("%s has keys that change nothing: %s", file, shown(others))
    if raw.get("model_type") not in (None, "SentenceTransformer"):
        raise CheckpointError(
            f"{file} describes a {shown(raw['model_type'])}, not a SentenceTransformer"
        )
    similarity = typed(raw, "similarity_fn_name", str | None, "cosine", file) or "cosine"
    if similarity not in SIMILARITIES:
        raise CheckpointError(
            f"{file} has similarity_fn_name {shown(similarity)}; understood: "
            f"{', '.join(SIMILARITIES)}"
        )
    given = typed(raw, "prompts", Mapping, {}, file)
    prompts = Stack().prompts | {key: typed(given, key, str, "", file) for key in given}
    name = typed(raw, "default_prompt_name", str | None, None, file)
    if name is not None and name not in prompts:
        raise CheckpointError(f"{file} has default_prompt_name {shown(name)}, but no such prompt")
    return {
        "prompts": prompts,
        "default_prompt_name": name,
        "similarity": similarity,
        "truncate_dim": typed(raw, "truncate_dim", int | None, None, file),
        "not_used": tuple(f"{shown(key)[1:-1]} = {shown(raw[key])}" for key in others),
    }


def max_length(
    folder: Path, transformer: Mapping[str, Any], config: EncoderConfig, ignore: Collection[str]
) -> int:
    """max_seq_length where given; else the smaller of the tokenizer's and the config's length."""
    given = typed(transformer, "max_seq_length", int | float | None, None, folder)
    if given is None or "max_seq_length" in ignore:
        own = optional(folder / "tokenizer_config.json")
        length = typed(own, "model_max_length", int | float | None, None, folder)
        given = config.max_positions if length is None else min(length, config.max_positions)
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
