"""A model -> a folder as transformers and sentence-transformers read it, and this package too."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from jaxbert.checkpoint.describing import KEEP, check_encoder, check_same
from jaxbert.checkpoint.model_types.table import model_type_for
from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.own.folder import write_own
from jaxbert.checkpoint.replacing import check_alone, replaced
from jaxbert.checkpoint.tensor_file import FLOATS, Entry
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensors import Checkpoint, save
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.process.backend import computing

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


def save_own(
    module: Any, make: Make, parts: Mapping[str, Any], folder: str | PathLike[str]
) -> None:
    """An encoder with parts of a user's own code, which make(config) makes too: own/folder.py.

    Raises CheckpointError for an encoder of other parts, before anything is written.
    """
    check_own_encoder(module, make)
    check_alone(folder)
    with replaced(folder) as room:
        write_own(module, parts, room)


def check_own_encoder(module: Any, make: Make) -> None:
    """Refuse an encoder that make(config) does not make, whatever the weights."""
    model_type_for(module.config)
    with computing():
        check_same(module, make(module.config))


class Rest(Protocol):
    """What a whole model has besides its encoder and its tokenizer, and how it is written."""

    @property
    def lower_case(self) -> bool:
        """Whether texts are lower-cased before they are tokenised."""

    def check(self, config: EncoderConfig) -> None:
        """Raise CheckpointError for what no folder describes."""

    def of_folder(self, stored: Checkpoint) -> Checkpoint:
        """The record to write by, for weights that came from a folder."""

    def by_hand(self, made: Checkpoint) -> Checkpoint:
        """The record to write by, for weights that came from nowhere."""

    def weights(self) -> Mapping[str, Any]:
        """Further weights of the record, by paths that no weight of an encoder has."""

    def write(self, room: Path, config: EncoderConfig) -> None:
        """Write further files, where weights and tokenizer are already."""

    def check_written(self, room: Path, config: EncoderConfig, ignore: Collection[str]) -> None:
        """Raise CheckpointError where what was written is read as something else."""


def save_model(
    module: Any,
    make: Make,
    tokenizer: Any,
    rest: Rest,
    folder: str | PathLike[str],
    stored: Checkpoint | None,
    ignore_config: Collection[str],
) -> None:
    """An encoder with its tokenizer and the rest; stored is the folder that its weights came from.

    What is written is read again, with ignore_config, and must be this tokenizer and this rest,
    before it takes its place. Raises CheckpointError for what the files cannot describe.
    """
    check_encoder(module, make)
    rest.check(module.config)
    if stored is not None and stored.config != module.config:
        raise CheckpointError(
            "the encoder's config was changed since it was loaded, so its folder's config.json "
            "does not describe it; make the model anew of its parts, and save that"
        )
    record = rest.by_hand(as_checkpoint(module)) if stored is None else rest.of_folder(stored)
    held = {**weights(module), **rest.weights()}
    write_model(
        lambda room: save(record, held, room), module.config, tokenizer, rest, folder, ignore_config
    )


def save_own_model(
    module: Any,
    make: Make,
    parts: Mapping[str, Any],
    tokenizer: Any,
    rest: Rest,
    folder: str | PathLike[str],
    ignore_config: Collection[str],
) -> None:
    """An encoder as `save_own` writes it, with its tokenizer and the rest, checked as all are."""
    check_own_encoder(module, make)
    rest.check(module.config)
    write_model(
        lambda room: write_own(module, parts, room),
        module.config,
        tokenizer,
        rest,
        folder,
        ignore_config,
    )


def write_model(
    write_encoder: Callable[[Path], None],
    config: EncoderConfig,
    tokenizer: Any,
    rest: Rest,
    folder: str | PathLike[str],
    ignore_config: Collection[str],
) -> None:
    """All files of a model in place of the folder's, once they are read as what they should be."""
    with replaced(folder) as room:
        write_encoder(room)
        tokenizer.save(room)
        rest.write(room, config)
        try:
            rest.check_written(room, config, ignore_config)
            check_tokenizer(room, tokenizer, rest.lower_case, ignore_config)
        except CheckpointError as error:
            text = str(error).replace(str(room), str(folder))
            raise CheckpointError(f"a folder cannot describe this model: {text}") from error


def as_checkpoint(module: Any) -> Checkpoint:
    """What a folder with the published names of an encoder's weights would hold."""
    kind = model_type_for(module.config)
    raw, family = kind.file.write(module.config)
    held = weights(module)
    folder = Path()
    stored = Checkpoint(folder, raw, module.config, family, {}, {})
    entries = {}
    if {rule.path for rule in stored.table} == set(held):
        entries = {rule.name: entry(rule, held, folder) for rule in stored.table}
    if not entries or kind.file.read(raw, entries, ()) != (module.config, family):
        raise CheckpointError(
            "the encoder's config is a mixture that no published code computes, so it cannot be "
            f"saved; {KEEP}"
        )
    return replace(stored, entries=entries)


# --- the tokenizer, read again -------------------------------------------------------------------


def check_tokenizer(room: Path, tokenizer: Any, lower_case: bool, ignore: Collection[str]) -> None:
    """Refuse a folder that gives another tokenizer than the one it was made of."""
    if not tokenizer_agrees(room, tokenizer, lower_case, ignore):
        raise CheckpointError(
            "the tokenizer was changed since it was loaded, or its files were; set "
            "tokenizer.folder = None to write it as it is now"
        )


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
