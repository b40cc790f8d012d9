"""What is saved, copied and pickled of each kind of model, as portable.py asks."""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from jaxbert.checkpoint.classifier import load_classifier
from jaxbert.checkpoint.masked_language import load_masked_language_head
from jaxbert.checkpoint.own.loading import check_names
from jaxbert.checkpoint.replacing import destination
from jaxbert.checkpoint.saving import save_own_model
from jaxbert.checkpoint.saving_heads import ClassifierFiles, MaskedFiles
from jaxbert.checkpoint.saving_stack import StackFiles
from jaxbert.checkpoint.sentence_transformers.cross_encoder import CrossEncoderSettings
from jaxbert.checkpoint.sentence_transformers.transformer import max_length
from jaxbert.checkpoint.source import inside
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.copying import Places
from jaxbert.encoder import Encoder, maker
from jaxbert.inference.on_engine import OnEngine
from jaxbert.inference.settings import Settings
from jaxbert.inference.snapshot import Snapshot
from jaxbert.model.copyable import check_pickles
from jaxbert.model.head import LabelHead, MaskedLanguageHead
from jaxbert.portable import Portable
from jaxbert.text.special_tokens import mask_word
from jaxbert.text.tokenizer import Tokenizer


class PortableOnEngine(OnEngine[Encoder], Portable):
    """An encoder that an engine runs, with the engine's own part of what is copied and pickled."""

    def _engine_arguments(self) -> dict[str, Any]:
        """Planner, devices and engine, as a constructor takes them; errors for what cannot move."""
        check_pickles(self.engine.planner, "planner")
        check_pickles(self.engine.given_kind, "engine")
        return {
            "planner": self.engine.planner,
            "devices": Places.of(self.engine.given_devices),
            "engine": self.engine.given_kind,
        }


class PortableEmbedder(Settings, PortableOnEngine):
    """An encoder, run by an engine, with a stack of settings."""

    def _take(self, parts: Mapping[str, Any]) -> None:
        """Run with a copy of the encoder, and check changes of prompts by the own default."""
        self.prompts = dict(self.prompts)
        self.engine = self.engine.copied(parts["encoder"])

    def _arguments(self) -> dict[str, Any]:
        """Tokenizer, stack, planner, devices and engine."""
        stack = replace(self.stack, prompts=dict(self.stack.prompts))
        return {"tokenizer": self.tokenizer, "stack": stack, **self._engine_arguments()}

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, parts: Mapping[str, Any] | None = None
    ) -> None:
        """Write a folder as `Portable.save_pretrained` does, which other libraries load too.

        parts are as in Encoder.save_pretrained: with them, only this package loads the folder, and
        weights are written under their paths here.
        """
        given = check_names(parts)
        if given:
            self._save(folder, given)
        else:
            super().save_pretrained(folder)

    def _save(self, folder: str | os.PathLike[str], parts: Mapping[str, Any]) -> None:
        """Write a folder that names these parts; the weights are no longer those of another."""
        self._check_class()
        ignore = () if self.origin is None else self.origin.ignore_config
        rest = (self.tokenizer, self._rest(), folder, ignore)
        save_own_model(self.encoder, maker(parts), parts, *rest)
        place = destination(folder)
        if self._source is not None and inside(self._source.stored.folder, place):
            self._source = None
        self._move(place)

    def _rest(self) -> StackFiles:
        """The files of the stack, which saving writes."""
        return StackFiles(self.stack)


class PortableScorer(PortableOnEngine):
    """An encoder and a classifier, run by an engine, with settings of their own."""

    settings: CrossEncoderSettings
    left_aside: tuple[str, ...]
    _head: LabelHead
    _mark: Snapshot  # of the head, whose weights a program holds

    @property
    def _parts(self) -> dict[str, Any]:
        """Encoder and head, which have weights."""
        return {"encoder": self.encoder, "head": self._head}

    def _take(self, parts: Mapping[str, Any]) -> None:
        """Run with a copy of encoder and head, and with prompts of its own."""
        self.settings = replace(self.settings, prompts=dict(self.settings.prompts))
        if self._mark.fits(self._head):  # else the copy refuses to run too
            self._mark = Snapshot(parts["head"])
        self.engine, self._head = self.engine.copied(parts["encoder"]), parts["head"]

    def _arguments(self) -> dict[str, Any]:
        """Tokenizer, settings, planner, devices and engine."""
        return {
            "tokenizer": self.tokenizer,
            "settings": replace(self.settings, prompts=dict(self.settings.prompts)),
            "left_aside": self.left_aside,
            **self._engine_arguments(),
        }

    @classmethod
    def _heads(cls, stored: Checkpoint, device: jax.Device | None) -> dict[str, Any]:
        """The classifier of an opened folder."""
        return {"head": load_classifier(stored, device)}

    def _rest(self) -> ClassifierFiles:
        """The head's tensors and the files of settings, which saving writes."""
        return ClassifierFiles(self._head, self.settings)


class PortableFiller(Portable):
    """An encoder and the head of a masked language model, with a mask and a length."""

    mask_token: str
    max_length: int
    _encoder: Encoder
    _head: MaskedLanguageHead

    @property
    def _parts(self) -> dict[str, Any]:
        """Encoder and head, which have weights."""
        return {"encoder": self._encoder, "head": self._head}

    def _take(self, parts: Mapping[str, Any]) -> None:
        """Take a copy of encoder and head."""
        self._encoder, self._head = parts["encoder"], parts["head"]

    def _arguments(self) -> dict[str, Any]:
        """The tokenizer, the mask and the length."""
        fields = ("tokenizer", "mask_token", "max_length", "left_aside")
        return {name: getattr(self, name) for name in fields}

    @classmethod
    def _heads(cls, stored: Checkpoint, device: jax.Device | None) -> dict[str, Any]:
        """The head of an opened folder."""
        return {"head": load_masked_language_head(stored, device)}

    def _rest(self) -> MaskedFiles:
        """The head's tensors, and where the tokenizer's files say mask and length."""
        read = settings_of(self.tokenizer, self.encoder)
        ignore = () if self.origin is None else self.origin.ignore_config
        return MaskedFiles(self._head, (self.mask_token, self.max_length), read, ignore)


def settings_of(
    tokenizer: Tokenizer, encoder: Encoder
) -> Callable[[Path, Collection[str]], tuple[str, int]]:
    """A function from a folder, and the keys to ignore, to its mask and the most tokens."""

    def read(folder: Path, ignore: Collection[str]) -> tuple[str, int]:
        word = mask_word(tokenizer.backend, folder, ignore)
        return word, max_length(folder, {}, encoder.config, ignore)

    return read
