"""A model's name or folder -> an opened model, for Encoder, Embedder, the command and convert/."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxbert.arguments import names
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.classifier import number_of_labels
from jaxbert.checkpoint.kinds import Task, embedder_stack, task_of
from jaxbert.checkpoint.own.folder import is_own, open_own
from jaxbert.checkpoint.sentence_transformers.cross_encoder import (
    CrossEncoderSettings,
    read_cross_encoder,
)
from jaxbert.checkpoint.sentence_transformers.modules_json import transformer_folder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensors import Checkpoint, open_folder


@dataclass(frozen=True)
class OpenedModel:
    """A model's folder whose config and tensor headers were read and understood.

    The numbers are read when an encoder is made of `stored`.
    """

    name: str  # as it was asked for: a path or a name on the hub
    folder: Path  # the model's folder, where modules.json would be
    stored: Checkpoint  # of the folder with config.json and the weights
    ignore_config: tuple[str, ...]  # keys of the JSON files that may be passed over

    @property
    def tokenizer_folder(self) -> Path:
        """Where the files of the tokenizer are: beside config.json."""
        return self.stored.folder

    @cached_property
    def task(self) -> Task:
        """What the model is for, and which class opens it."""
        return task_of(self.folder, self.stored)

    def read_stack(self) -> Stack:
        """What comes after the encoder in a model that makes vectors of texts.

        Raises CheckpointError for a classifier or reranker, and for a module that is not
        understood. Warns with NotAnEmbedderWarning for a masked language model.
        """
        return embedder_stack(self.task, self.stored, self.ignore_config)

    def read_cross_encoder(self) -> CrossEncoderSettings:
        """What a reranker or classifier says beside its tensors.

        Raises CheckpointError for another kind of model, and for what is not understood.
        """
        self.task.check("CrossEncoder")
        labels = number_of_labels(self.stored)
        return read_cross_encoder(self.folder, self.stored, self.ignore_config, labels)


def open_at(name: str, folder: Path, inner: Path, ignore_config: Collection[str]) -> OpenedModel:
    """Open a model whose folder is known; inner is the folder with config.json and weights.

    Raises CheckpointError, and warns, as `open_folder` does.
    """
    ignore = tuple(ignore_config)
    stored = open_own(inner) if is_own(inner) else open_folder(inner, ignore_config=ignore)
    return OpenedModel(name, folder, stored, ignore)


def open_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    ignore_config: Collection[str] = (),
    cache: str | None = None,
    offline: bool = False,
) -> OpenedModel:
    """The model of a folder or hub name.

    ignore_config names keys of its JSON files that may be passed over; cache and offline are as in
    `hub.resolve`. Raises ModelNotFoundError where there is no such model, CheckpointError for what
    is damaged, missing or not understood.
    """
    ignore = names(ignore_config, "ignore_config")
    folder = hub.resolve(name, revision=revision, token=token, cache=cache, offline=offline)
    return open_at(os.fspath(name), folder, transformer_folder(folder), ignore)
