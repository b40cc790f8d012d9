"""What a folder has besides encoder and tokenizer where a head gives the answers.

A head's tensors are written as the encoder's are: by the rules that read them, under the names and
in the dtypes that they came with.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxbert.checkpoint.classifier import load_classifier
from jaxbert.checkpoint.classifier_formats import classifier_format
from jaxbert.checkpoint.config_fields import ACTIVATION
from jaxbert.checkpoint.describing import check_head
from jaxbert.checkpoint.heads import beside
from jaxbert.checkpoint.json_file import optional, write
from jaxbert.checkpoint.masked_language import (
    DECODER_BIAS,
    DECODER_WEIGHT,
    load_masked_language_head,
    plain_head,
)
from jaxbert.checkpoint.model_types.table import model_type_of
from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.opening import OpenedModel, open_at
from jaxbert.checkpoint.saving import entry
from jaxbert.checkpoint.sentence_transformers.cross_encoder import (
    ACTIVATIONS,
    KEY,
    CrossEncoderSettings,
    label_names,
    with_activation,
    write_cross_encoder,
)
from jaxbert.checkpoint.tensor_names.heads import DECODER, MASKED_LANGUAGE
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.activations import ACTIVATIONS as FEED_FORWARD
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import MaskedLanguageHead

# The output table and its bias where a file stores them beside what they are equal to.
TABLE = Rule(DECODER_WEIGHT, "embeddings.word", "v d -> v d")
TABLE_BIAS = Rule(DECODER_BIAS, "head.bias", "v -> v")
TOKENIZER_SETTINGS = "tokenizer_config.json"


@dataclass(frozen=True)
class WithHead(Checkpoint):
    """A record whose table ends with the rules of a head, whose weights have paths of their own."""

    head: tuple[Rule, ...] = ()

    @cached_property
    def table(self) -> list[Rule]:
        """The encoder's rules, then the head's."""
        return [*super().table, *self.head]


def of_head(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules of a head with paths that no weight of an encoder has."""
    return tuple(rule._replace(path=f"head.{rule.path}") for rule in rules)


def with_head(
    record: Checkpoint, rules: Sequence[Rule], own: Mapping[str, Any], **changes: Any
) -> WithHead:
    """The record with these rules and with own, the entries that they write, out of unused."""
    kept = {field.name: getattr(record, field.name) for field in fields(Checkpoint)} | changes
    taken = {entry.name for entry in own.values()}
    kept["entries"] = {**kept["entries"], **own}
    kept["unused"] = {name: one for name, one in record.unused.items() if name not in taken}
    return WithHead(**kept, head=tuple(rules))


class HeadFiles:
    """What the files of both heads have in common."""

    module: Any  # the head, whose weights are written

    def weights(self) -> dict[str, Any]:
        """The weights of the head, by the paths of its rules."""
        return {f"head.{path}": value for path, value in weights(self.module).items()}

    def stored_with(
        self, stored: Checkpoint, rules: Sequence[Rule], raw: Mapping[str, Any]
    ) -> WithHead:
        """The record of a folder that has the tensors of these rules, and this config.json."""
        there = beside(stored)
        return with_head(stored, rules, {rule.name: there[rule.name] for rule in rules}, raw=raw)

    def made_with(
        self, made: Checkpoint, rules: Sequence[Rule], kind: str, **keys: Any
    ) -> WithHead:
        """The record of a new folder of transformers' class BertFor<kind>, or JinaBERT's.

        That class puts bert. before the names of the encoder, of which the pooler is a part; that
        of another family puts its own name there.
        """
        held = self.weights()
        own = {rule.name: entry(rule, held, made.folder) for rule in rules}
        base = model_type_of(made.raw).base
        entries = {
            name: replace(one, name=f"{base}.{name}")
            for name, one in {**made.entries, **own}.items()
            if name in made.entries or name.startswith("pooler.")
        }
        (model,) = made.raw["architectures"]
        name = model.replace("Model", f"For{kind}")
        raw = {**made.raw, "architectures": [name], **keys}
        if "auto_map" in raw:
            code = raw["auto_map"]["AutoModel"].replace(model, name)
            raw["auto_map"] = {**raw["auto_map"], f"AutoModelFor{kind}": code}
        return with_head(made, rules, {**own, **entries}, raw=raw, entries={})

    def opened_again(self, room: Path, config: EncoderConfig, ignore: Sequence[str]) -> OpenedModel:
        """What was written, opened; CheckpointError where its config is another."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said when the model was loaded
            again = open_at(str(room), room, room, ignore)
        if again.stored.config != config:
            raise CheckpointError("its config.json is read as that of another encoder")
        return again

    def compare(self, again: Any) -> None:
        """Refuse a head that was read with other numbers than were written."""
        own, other = weights(self.module), weights(again)
        for name in {*own, *other}:
            if name not in own or name not in other or not same_numbers(own[name], other[name]):
                raise CheckpointError(f"{name} of the head is read as other numbers")


def same_numbers(a: Any, b: Any) -> bool:
    """Whether two arrays are the same bits once they are float32."""
    one, other = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return one.shape == other.shape and one.tobytes() == other.tobytes()


# --- rerankers and classifiers -------------------------------------------------------------------


@dataclass(frozen=True)
class ClassifierFiles(HeadFiles):
    """The tensors of a classifier, and the files of sentence-transformers' CrossEncoder."""

    module: Any
    settings: CrossEncoderSettings

    @property
    def lower_case(self) -> bool:
        """Whether the settings say so."""
        return self.settings.lower_case

    def check(self, config: EncoderConfig) -> None:
        """Refuse settings that no file has words for; the head is compared with config.json."""
        settings = self.settings
        if type(settings) is not CrossEncoderSettings:
            raise CheckpointError("the settings are of a class of its own, which no file describes")
        if settings.activation_name not in ACTIVATIONS:
            raise CheckpointError(
                f"the settings have activation {settings.activation!r}, which no file describes; "
                f"understood are {', '.join(ACTIVATIONS)}"
            )

    def of_folder(self, stored: Checkpoint) -> Checkpoint:
        """The record with the head; config.json changes where the settings did."""
        raw = with_activation(stored.raw, self.settings)
        if label_names(stored, len(self.settings.labels)) != self.settings.labels:
            raw |= self.named_labels()
        rules = of_head(classifier_format(stored).rules)
        return self.checked(self.stored_with(stored, rules, raw))

    def by_hand(self, made: Checkpoint) -> Checkpoint:
        """The record of a new BertForSequenceClassification."""
        rules = of_head(classifier_format(made).rules)
        keys = self.named_labels()
        return self.checked(self.made_with(made, rules, "SequenceClassification", **keys))

    def checked(self, record: WithHead) -> WithHead:
        """The record, unless its config.json describes another head."""
        labels, kind = len(self.settings.labels), classifier_format(record)
        plain = jax.eval_shape(lambda: kind.make(record.config, labels, record.raw))
        check_head(self.module, plain)
        return record

    def named_labels(self) -> dict[str, Any]:
        """The labels as config.json names them."""
        labels = self.settings.labels
        return {
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }

    def write(self, room: Path, config: EncoderConfig) -> None:
        """Write the three files that sentence-transformers has beside config.json."""
        write_cross_encoder(room, self.settings)

    def check_written(self, room: Path, config: EncoderConfig, ignore: Collection[str]) -> None:
        """Refuse a folder that gives another head or other settings."""
        # These are written as they are understood, so that nobody need pass over them again.
        ignore = tuple(key for key in ignore if key not in (KEY, "max_seq_length"))
        again = self.opened_again(room, config, ignore)
        read = again.read_cross_encoder()
        names = ("labels activation_name max_length prompts default_prompt_name lower_case").split()
        for name in names:
            own, other = getattr(self.settings, name), getattr(read, name)
            if own != other:
                raise CheckpointError(f"the settings have {name} {own!r}, read as {other!r}")
        self.compare(load_classifier(again.stored))


# --- masked language models ----------------------------------------------------------------------


@dataclass(frozen=True)
class MaskedFiles(HeadFiles):
    """The tensors of a masked language model's head; its settings are the tokenizer's."""

    module: MaskedLanguageHead
    settings: tuple[str, int]  # the word of the mask, and the most tokens of a text
    # How they are read of a folder.
    read: Callable[[Path, Collection[str]], tuple[str, int]]
    ignore: Collection[str]
    lower_case: bool = False

    def check(self, config: EncoderConfig) -> None:
        """Refuse a head whose activation has no name; the rest is compared with config.json."""
        self.activation()

    def activation(self) -> str:
        """The head's activation as hidden_act of config.json names it."""
        ours = next((w for w, f in FEED_FORWARD.items() if f is self.module.activation), None)
        for theirs, word in ACTIVATION.words.items():
            if word == ours:
                return theirs
        raise CheckpointError(
            "the head has an activation of its own, which no config.json describes"
        )

    def checked(self, record: WithHead) -> WithHead:
        """The record, unless its config.json describes another head."""
        tied = self.module.decoder is None
        check_head(self.module, jax.eval_shape(lambda: plain_head(record, tied)))
        return record

    def of_folder(self, stored: Checkpoint) -> Checkpoint:
        """The record with the head, also where it stores the word embeddings a second time."""
        tied, there = self.module.decoder is None, beside(stored)
        second = [rule for rule in ([TABLE] if tied else []) + [TABLE_BIAS] if rule.name in there]
        rules = (*of_head([*MASKED_LANGUAGE, *([] if tied else DECODER)]), *second)
        return self.checked(self.stored_with(stored, rules, stored.raw))

    def by_hand(self, made: Checkpoint) -> Checkpoint:
        """The record of a new BertForMaskedLM."""
        rules, keys = of_head(MASKED_LANGUAGE), dict[str, Any]()
        if self.module.decoder is not None:
            rules = (*of_head([*MASKED_LANGUAGE, *DECODER]), TABLE_BIAS)
            keys["tie_word_embeddings"] = False
        if made.config.feed_forward == "glu":  # which does not read the key
            keys[ACTIVATION.name] = self.activation()
        return self.checked(self.made_with(made, rules, "MaskedLM", **keys))

    def write(self, room: Path, config: EncoderConfig) -> None:
        """Set what the tokenizer's files say otherwise; there is no file of its own."""
        try:
            same = self.read(room, self.ignore) == self.settings
        except CheckpointError:  # it names no mask
            same = False
        if not same:
            mask, most = self.settings
            file = room / TOKENIZER_SETTINGS
            write(file, optional(file) | {"mask_token": mask, "model_max_length": most})

    def check_written(self, room: Path, config: EncoderConfig, ignore: Collection[str]) -> None:
        """Refuse a folder that gives another head, mask or length."""
        again = self.opened_again(room, config, tuple(ignore))
        again.task.check("MaskedLM")
        found = self.read(room, ignore)
        if found != self.settings:
            raise CheckpointError(f"mask and length are {self.settings!r}, read as {found!r}")
        self.compare(load_masked_language_head(again.stored))
