"""What must be known of a model_type to read its folders and to write them."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxbert.checkpoint.config_fields import Key
from jaxbert.checkpoint.config_keys import ConfigKeys
from jaxbert.checkpoint.json_file import typed
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.errors import CheckpointError, ConfigError, shown
from jaxbert.model.config import EncoderConfig

Raw = Mapping[str, Any]  # the contents of config.json
Names = Collection[str]  # of tensors, without prefix


class ConfigFile(Protocol):
    """config.json of one model_type <-> the config of an encoder, and its family."""

    def read(self, raw: Raw, names: Names, ignore: Names) -> tuple[EncoderConfig, str]:
        """The config and family; CheckpointError for what is not understood."""

    def write(self, config: Any) -> tuple[dict[str, Any], str]:
        """config.json for an encoder, and its family; CheckpointError for what has no word."""

    def not_used(self, raw: Raw, names: Names) -> list[str]:
        """The keys that are accepted although nothing here reads them."""


@dataclass(frozen=True)
class ModelType:
    """The keys of config.json and the names of tensors that folders of one model_type have."""

    title: str
    words: Sequence[str]  # the names that the word embeddings may have
    base: str  # the name of the encoder in a model with a head, as a regular expression
    layers: str  # what stands before the number of a layer
    layers_key: str  # the key of config.json with the number of layers
    not_needed: re.Pattern[str]  # tensors that embeddings never use
    file: ConfigFile
    rules: Callable[[Any, str, Names], list[Rule]]  # (config, family, names of the tensors)


def one_table(table: list[Rule]) -> Callable[[Any, str, Names], list[Rule]]:
    """The rules of a type whose checkpoints all have the same tensors."""
    return lambda config, family, names: table


@dataclass(frozen=True)
class NativeConfig:
    """config.json of a family whose code is transformers' own <-> the family's config."""

    family: str
    make: Callable[..., EncoderConfig]
    fields: Sequence[Key]
    keys: ConfigKeys
    constants: Mapping[str, Any]  # what every config.json of the family says
    code: str = ""  # remote code that only imports transformers' own, as a regular expression

    def is_plain(self, raw: Raw, ignore: Names) -> bool:
        """Whether no remote code is named; code that is not understood is a CheckpointError."""
        auto_map = typed(raw, "auto_map", Mapping, None, "config.json") or {}
        for target in () if "auto_map" in ignore else auto_map.values():
            if not re.fullmatch(self.code, str(target)):
                raise CheckpointError(
                    f"auto_map in config.json names code that is not understood ({target}); if the "
                    f'model is a plain {self.keys.title}, pass ignore_config=("auto_map",)'
                )
        return True

    def read(self, raw: Raw, names: Names, ignore: Names) -> tuple[EncoderConfig, str]:
        """The config and family; CheckpointError for what is not understood."""
        self.keys.refuse_other_arithmetic(raw, ignore)
        self.is_plain(raw, ignore)
        values = {key.field: key.read(raw) for key in self.fields}
        try:
            return self.make(**values), self.family
        except (ConfigError, TypeError) as error:
            raise CheckpointError(f"config.json describes no encoder: {error}") from error

    def write(self, config: EncoderConfig) -> tuple[dict[str, Any], str]:
        """config.json for an encoder, and its family; CheckpointError for what has no word."""
        raw = {key.name: key.write(config) for key in self.fields}
        for key, value in raw.items():
            if value is None:
                raise CheckpointError(
                    f"a config.json of {self.keys.title} has no word for this encoder's {key}; "
                    "such an encoder cannot be saved"
                )
        return dict(sorted((raw | dict(self.constants)).items())), self.family

    def not_used(self, raw: Raw, names: Names) -> list[str]:
        """The keys that are accepted although nothing here reads them."""
        return self.keys.unknown(raw, ())


def said(raw: Raw, keys: Names) -> tuple[str, ...]:
    """The keys with their values, for people."""
    return tuple(f"{shown(key)[1:-1]} = {shown(raw[key])}" for key in keys)
