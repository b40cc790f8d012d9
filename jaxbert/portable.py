"""A whole model that can be saved as a folder, copied, and sent to another process."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import jax

from jaxbert import copying
from jaxbert.checkpoint.describing import check_own
from jaxbert.checkpoint.replacing import destination
from jaxbert.checkpoint.saving import Rest, save_model
from jaxbert.checkpoint.source import Origin, Source, inside
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.encoder import Encoder, maker
from jaxbert.errors import InputTypeError
from jaxbert.text.tokenizer import Tokenizer


def check_made(**given: tuple[Any, type]) -> None:
    """Refuse parts of other types than those that a model is made of: name = (value, type)."""
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            raise InputTypeError(f"{name} is a {type(value).__name__}; pass a {kind.__name__}")


class Portable:
    """What a whole model does with itself; its fields are described in its class."""

    _home: ClassVar[type]  # the package's class, whose arguments a pickle is made of
    _title: ClassVar[str]  # such as "an Embedder"
    _anew: ClassVar[str]  # how a caller makes one of the parts
    _made: ClassVar[tuple[str, ...]]  # fields that its constructor makes of the arguments
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

    def __init_subclass__(cls) -> None:
        """A class with a title is the package's; what others override is not saved in silence."""
        super().__init_subclass__()
        if "_title" in vars(cls):
            cls._home = cls

    # --- what a subclass says of itself ----------------------------------------------------------

    @property
    def _parts(self) -> dict[str, Any]:
        """The modules with weights, by the constructor's arguments."""
        return {"encoder": self.encoder}

    def _take(self, parts: Mapping[str, Any]) -> None:
        """Take these parts, with the same arrays, in a copy that shares no settings."""
        raise NotImplementedError

    def _arguments(self) -> dict[str, Any]:
        """The constructor's other arguments, as a pickle holds them."""
        raise NotImplementedError

    @classmethod
    def _heads(cls, stored: Checkpoint, device: jax.Device | None) -> dict[str, Any]:
        """The parts besides the encoder, from an opened folder."""
        return {}

    def _rest(self) -> Rest:
        """What saving writes besides the encoder and the tokenizer."""
        raise NotImplementedError

    # --- saving ----------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a folder that this package, transformers and sentence-transformers load.

        Weights that came from a folder keep their names, dtypes and unused tensors, bit for bit;
        others are written under the published names. Another model that the folder holds is
        replaced as a whole: at every moment it is that one, this one, or refused. Raises
        CheckpointError for what the files cannot describe, before anything is written, and
        WriteError.
        """
        self._check_class()
        ignore = () if self.origin is None else self.origin.ignore_config
        save_model(
            self.encoder, maker({}), self.tokenizer, self._rest(), folder, self.stored, ignore
        )
        self._move(destination(folder))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """`save_pretrained` under the name that it has in older code."""
        self.save_pretrained(folder)

    def _check_class(self) -> None:
        """Refuse a subclass of model or tokenizer that computes anything else."""
        check_own(self, self._home, self._title)
        check_own(self.tokenizer, Tokenizer, "a Tokenizer")

    def _move(self, place: Path) -> None:
        """Note that the model was saved to place: if that was its own folder, its files changed.

        The weights are now those in place, and the tokenizer's files, which may have been in a
        folder below it, are there too.
        """
        if self._source is not None:
            self._source = self._source.moved(place, tuple(self._parts.values()))
        if self.tokenizer.folder is not None and inside(self.tokenizer.folder, place):
            self.tokenizer.folder = place

    # --- pickles and copies ----------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: weights, or the folder that has them, and everything else."""
        return copying.state(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the weights again, and put the model together."""
        arguments = copying.restored(self._home, state)
        self._home.__init__(self, **arguments)  # type: ignore[misc]
        vars(self).update(state["more"])

    def __copy__(self) -> Self:
        """A model with settings of its own, which shares the encoder and the programs."""
        return copying.copied(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """The same with parts and a tokenizer of its own; arrays and programs are shared."""
        return copying.copied(self, memo)
