"""A folder with all its parts, as `info` and `verify` take it, whatever kind of model it is."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from jax.typing import DTypeLike

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.opening import OpenedModel, open_model
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError
from jaxbert.model.attention import Attend, attend
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.parts import Part, Vectors, part_of


class Model(NamedTuple):
    """A folder, opened: its tokenizer may be missing, for a bare encoder can be checked too."""

    opened: OpenedModel
    encoder: Encoder
    part: Part
    tokenizer: Tokenizer | None

    @property
    def stored(self) -> Checkpoint:
        """The record of the weights."""
        return self.opened.stored

    @property
    def stack(self) -> Stack:
        """The stack of a model that makes vectors; CheckpointError names the class of another."""
        if isinstance(self.part, Vectors):
            return self.part.stack
        return self.opened.read_stack()

    @property
    def needed_tokenizer(self) -> Tokenizer:
        """The tokenizer; CheckpointError for a folder without one."""
        if self.tokenizer is None:
            raise CheckpointError(
                f"{self.opened.tokenizer_folder} has no tokenizer; add tokenizer.json or vocab.txt"
            )
        return self.tokenizer


def load_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None,
    ignore_config: Sequence[str],
    dtype: DTypeLike,
    attention: Attend = attend,
) -> Model:
    """All parts of a model of any kind, its weights too; errors as of the class that opens it."""
    opened = open_model(name, revision=revision, ignore_config=ignore_config)
    part = part_of(opened)
    inner = opened.tokenizer_folder
    bare = not any(is_there(inner / name) for name in ("tokenizer.json", "vocab.txt"))
    tokenizer = None if bare else Tokenizer.of_model(opened, part.lower_case)
    encoder = Encoder.from_checkpoint(opened.stored, dtype=dtype, attention=attention)
    return Model(opened, encoder, part, tokenizer)
