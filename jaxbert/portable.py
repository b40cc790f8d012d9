"""A whole model that can be saved as a folder, copied, and sent to another process."""

import os
from pathlib import Path
from typing import Any, ClassVar, Self

from flax import nnx

from jaxbert import copying
from jaxbert.checkpoint.describing import check_own
from jaxbert.checkpoint.replacing import destination
from jaxbert.checkpoint.saving import save_model
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.source import Origin, Source, inside
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.encoder import Encoder
from jaxbert.errors import InputTypeError
from jaxbert.model.config import EncoderConfig
from jaxbert.text.tokenizer import Tokenizer


def plain(config: EncoderConfig) -> Encoder:
    """An encoder of nothing but what config says."""
    return Encoder(config, rngs=nnx.Rngs(0))


def check_made(encoder: Any, tokenizer: Any, stack: Any) -> None:
    """Refuse what no Embedder can be made of."""
    stack = Stack() if stack is None else stack
    for value, name, kind in ((encoder, "encoder", Encoder), (stack, "stack", Stack)):
        if not isinstance(value, kind):
            raise InputTypeError(f"{name} is a {type(value).__name__}; pass a {kind.__name__}")
    if not callable(tokenizer):
        raise InputTypeError(f"tokenizer is a {type(tokenizer).__name__}; pass a Tokenizer")


class Portable:
    """What an Embedder does with itself; its fields are described there."""

    _home: ClassVar[type]  # the class whose arguments are encoder, tokenizer, stack, ...
    tokenizer: Tokenizer
    _source: Source | None

    @property
    def stored(self) -> Checkpoint | None:
        """The record of the folder that the weights came from; None where there was no folder."""
        return None if self._source is None else self._source.stored

    @property
    def origin(self) -> Origin | None:
        """That folder, as other processes find it; None where there was no folder."""
        return None if self._source is None else self._source.origin

    @property
    def encoder(self) -> Encoder:
        """The encoder, which the subclass has."""
        raise NotImplementedError

    @property
    def stack(self) -> Stack:
        """The stack, which the subclass has."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        """The first subclass is the package's; what others override is not saved in silence."""
        super().__init_subclass__()
        if Portable in cls.__bases__:
            cls._home = cls

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that this package, transformers and sentence-transformers load.

        Weights that came from a folder keep their names, dtypes and unused tensors, bit for bit;
        others are written under the published names. Another model that the folder holds is
        replaced as a whole: at every moment it is that one, this one, or refused. Raises
        CheckpointError for what the files cannot describe, before anything is written, and
        WriteError.
        """
        check_own(self, self._home, "an Embedder")
        check_own(self.tokenizer, Tokenizer, "a Tokenizer")
        ignore = () if self.origin is None else self.origin.ignore_config
        save_model(self.encoder, plain, self.tokenizer, self.stack, folder, self.stored, ignore)
        self._move(destination(folder))

    def _move(self, place: Path) -> None:
        """Note that the model was saved to place: if that was its own folder, its files changed.

        The weights are now those in place, and the tokenizer's files, which may have been in a
        folder below it, are there too.
        """
        if self._source is not None:
            self._source = self._source.moved(place, self.encoder)
        if self.tokenizer.folder is not None and inside(self.tokenizer.folder, place):
            self.tokenizer.folder = place

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: weights, or the folder that has them, and everything else."""
        return copying.state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the weights again, and put the model together."""
        self._home.__init__(self, **copying.restored(state))  # type: ignore[misc]
        vars(self).update(state["more"])

    def __copy__(self) -> Self:
        """An embedder with settings of its own, which shares the encoder and the programs."""
        return copying.copied(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same with an encoder and a tokenizer of its own; arrays and programs are shared."""
        return copying.copied(self, memo)
