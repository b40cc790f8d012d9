"""A model -> a folder as transformers and sentence-transformers read it, and this package too."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.checkpoint.describing import KEEP, check_encoder, check_stack
from jaxbert.checkpoint.model_types.table import model_type_for
from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.replacing import check_alone, replaced
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack, save_stack
from jaxbert.checkpoint.tensor_file import FLOATS, Entry
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensors import Checkpoint, save
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense

Make = Callable[[EncoderConfig], Any]


def save_encoder(module: Any, make: Make, folder: str | PathLike[str]) -> None:
    """config.json and model.safetensors of an encoder, in the dtype of its weights.

    make(config) is an encoder of nothing but what config says; where the module is another, as one
    with a position scheme of its own, nothing is written and CheckpointError raised.
    """
    check_encoder(module, make)
    check_alone(folder)
    stored = as_checkpoint(module)
    with replaced(folder) as room:
        save(stored, weights(module), room)


def save_model(
    module: Any,
    make: Make,
    tokenizer: Any,
    stack: Stack,
    folder: str | PathLike[str],
    stored: Checkpoint | None,
    ignore_config: Collection[str],
) -> None:
    """An encoder with its tokenizer and stack; stored is the folder that its weights came from.

    What is written is read again, with ignore_config, and must be this tokenizer and this stack,
    before it takes its place. Raises CheckpointError for what the files cannot describe.
    """
    check_encoder(module, make)
    check_stack(stack, module.config.hidden_size)
    if stored is not None and stored.config != module.config:
        raise CheckpointError(
            "the encoder's config was changed since it was loaded, so its folder's config.json "
            "does not describe it; save Embedder(encoder, tokenizer, stack)"
        )
    stored = as_checkpoint(module) if stored is None else stored
    with replaced(folder) as room:
        save(stored, weights(module), room)
        tokenizer.save(room)
        save_stack(stack, module.config.hidden_size, room)
        try:
            check_written(room, tokenizer, stack, module.config, ignore_config)
        except CheckpointError as error:
            text = str(error).replace(str(room), str(folder))
            raise CheckpointError(f"a folder cannot describe this model: {text}") from error


def as_checkpoint(module: Any) -> Checkpoint:
    """What a folder with the published names of an encoder's weights would hold."""
    kind = model_type_for(module.config)
    raw, family = kind.write(module.config)
    held = weights(module)
    folder = Path()
    stored = Checkpoint(folder, raw, module.config, family, {}, {})
    entries = {}
    if {rule.path for rule in stored.table} == set(held):
        entries = {rule.name: entry(rule, held, folder) for rule in stored.table}
    if not entries or kind.read(raw, entries, ()) != (module.config, family):
        raise CheckpointError(
            "the encoder's config is a mixture that no published code computes, so it cannot be "
            f"saved; {KEEP}"
        )
    return replace(stored, entries=entries)


# --- what was written, read again ----------------------------------------------------------------


def check_written(
    room: Path, tokenizer: Any, stack: Stack, config: EncoderConfig, ignore: Collection[str]
) -> None:
    """Refuse a folder that gives another tokenizer or another stack than those it was made of."""
    again = read_stack(room, config, ignore)
    for name in (field.name for field in fields(Stack)):
        own, other = comparable(getattr(stack, name)), comparable(getattr(again, name))
        if name == "prompts":  # those that every model has are added by reading
            own = Stack().prompts | own
        if own != other:
            raise CheckpointError(f"the stack has {name} {own!r}, which is read as {other!r}")
    if not tokenizer_agrees(room, tokenizer, stack.lower_case, ignore):
        raise CheckpointError(
            "the tokenizer was changed since it was loaded, or its files were; set "
            "tokenizer.folder = None to write it as it is now"
        )


def comparable(value: Any) -> Any:
    """A field of a Stack as something that == compares by contents."""
    if isinstance(value, Dense):
        arrays = (value.weight, value.bias)
        numbers = [None if x is None else (x.shape, np.float32(x).tobytes()) for x in arrays]
        return (*numbers, value.activation)
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(map(comparable, value)) if isinstance(value, tuple | list) else value


def tokenizer_agrees(room: Path, tokenizer: Any, lower_case: bool, ignore: Collection[str]) -> bool:
    """Whether the folder's tokenizer is this one; lower-casing twice is lower-casing once."""
    kind, own = type(tokenizer), definition(tokenizer)
    again = kind.from_folder(room, lower_case, ignore)
    if again.side != tokenizer.side:
        return False
    if definition(again) == own:
        return True
    normalizer = own["normalizer"] or {}
    return (
        bool(normalizer.get("lowercase"))
        and definition(kind.from_folder(room, False, ignore)) == own
    )


def definition(tokenizer: Any) -> dict[str, Any]:
    """Everything about a tokenizer but how texts are cut and filled up, which each call says."""
    try:
        with tokenizer.lock:
            described = json.loads(tokenizer.backend.to_str())
            split = tokenizer.backend.encode_special_tokens
    except Exception as error:  # the library raises bare ones
        raise CheckpointError(f"the tokenizer cannot be written ({error})") from error
    # Where their words are split as others are, special tokens are as good as not there.
    added = [own for own in described["added_tokens"] if not (split and own["special"])]
    return {**described, "added_tokens": added, "truncation": None, "padding": None}


# --- the files -----------------------------------------------------------------------------------


def entry(rule: Rule, held: Mapping[str, Any], folder: Path) -> Entry:
    """What the file will say of the tensor that a rule is about."""
    own = rule.own_part(held[rule.path])
    dtype = next(key for key, numpy in FLOATS.items() if numpy == own.dtype.name)
    return Entry(rule.name, folder / "model.safetensors", dtype, rule.published_shape(own.shape))
