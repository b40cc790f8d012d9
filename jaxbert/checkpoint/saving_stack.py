"""What an embedder's folder has besides its encoder and tokenizer: the files of its stack."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.checkpoint.describing import check_stack
from jaxbert.checkpoint.sentence_transformers.stack import Stack, read_stack, save_stack
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense


@dataclass(frozen=True)
class StackFiles:
    """modules.json and what it lists; the record of the weights is that of the encoder."""

    stack: Stack

    @property
    def lower_case(self) -> bool:
        """Whether the stack says so."""
        return self.stack.lower_case

    def check(self, config: EncoderConfig) -> None:
        """Refuse a stack that no folder describes."""
        check_stack(self.stack, config.hidden_size)

    def of_folder(self, stored: Checkpoint) -> Checkpoint:
        """The record of the folder as it is."""
        return stored

    def by_hand(self, made: Checkpoint) -> Checkpoint:
        """The record of a new folder as it is."""
        return made

    def weights(self) -> Mapping[str, Any]:
        """None, for those of Dense modules have files of their own."""
        return {}

    def write(self, room: Path, config: EncoderConfig) -> None:
        """Write the files of the stack."""
        save_stack(self.stack, config.hidden_size, room)

    def check_written(self, room: Path, config: EncoderConfig, ignore: Collection[str]) -> None:
        """Refuse a folder that gives another stack than the one it was made of."""
        again = read_stack(room, config, ignore)
        for name in (field.name for field in fields(Stack) if field.compare):
            own, other = comparable(getattr(self.stack, name)), comparable(getattr(again, name))
            if name == "prompts":  # those that every model has are added by reading
                own = Stack().prompts | own
            if own != other:
                raise CheckpointError(f"the stack has {name} {own!r}, which is read as {other!r}")


def comparable(value: Any) -> Any:
    """A field of a Stack as something that == compares by contents."""
    if isinstance(value, Dense):
        arrays = (value.weight, value.bias)
        numbers = [None if x is None else (x.shape, np.float32(x).tobytes()) for x in arrays]
        return (*numbers, value.activation)
    if isinstance(value, Mapping):
        return dict(value)
    return tuple(map(comparable, value)) if isinstance(value, tuple | list) else value
