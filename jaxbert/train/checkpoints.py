"""The state of a run on the disk: whole or not at all, and never read unless its sum is right.

A checkpoint is a safetensors file and, written after it, a record with its sum. Orbax, which comes
with flax, is not used: tried with orbax-checkpoint 0.12.8, a flipped bit in one of the 13 files of
a checkpoint was restored without a word.
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxbert.corpus.bad_rows import ignore
from jaxbert.corpus.files import (
    DamagedRecordError,
    measured,
    read_record,
    write_errors,
    write_record,
)
from jaxbert.errors import CheckpointError
from jaxbert.process.disk import sync
from jaxbert.train.step import State

NAME = re.compile(r"step-(\d+)\.safetensors")
# Checkpoints that are kept: the last one, and one to go back to.
KEPT = 2


def named(state: State) -> dict[str, Any]:
    """The arrays of a state by their paths."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(state)}


class Checkpoints:
    """The checkpoints in a folder, by the number of steps that were done."""

    def __init__(self, folder: Path, tell: Callable[[str], object] = ignore) -> None:
        """tell is given a sentence about each checkpoint that cannot be used."""
        self.folder, self.tell = folder, tell

    def file(self, step: int) -> Path:
        """The file of the state after so many steps."""
        return self.folder / f"step-{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """After how many steps there are files, the last first."""
        found = [NAME.fullmatch(file.name) for file in self.folder.glob("step-*")]
        return sorted((int(name[1]) for name in found if name), reverse=True)

    def save(self, state: State) -> None:
        """Write a state, and remove all but the last KEPT. Raises WriteError."""
        step = int(state.step)
        file, partial = self.file(step), self.folder / "checkpoint.partial"
        tensors = {name: np.asarray(leaf) for name, leaf in named(state).items()}
        with write_errors(file):
            self.folder.mkdir(exist_ok=True)
            self.record(step).unlink(missing_ok=True)
            save_file(tensors, partial)
            sync(partial)
            os.replace(partial, file)
            sync(self.folder)
        write_record(self.record(step), {"step": step, **measured(file)})
        for old in self.steps()[KEPT:]:
            self.record(old).unlink(missing_ok=True)
            self.file(old).unlink()

    def record(self, step: int) -> Path:
        """What says that a file is whole."""
        return self.file(step).with_suffix(".json")

    def latest(self, like: State) -> State | None:
        """The last state that is whole, on the devices of `like`; None if there is none.

        What is damaged, or was not finished, is passed over. Raises CheckpointError for a state of
        another model or optimiser.
        """
        for step, fault in self.examined():
            if fault is None:
                return self.read(step, like)
            self.tell(f"{self.file(step)} {fault}; the run goes on from the one before it")
        return None

    def examined(self) -> Iterator[tuple[int, str | None]]:
        """The steps with a file, the last first, and what is wrong with it."""
        for step in self.steps():
            try:
                before = read_record(self.record(step))
            except FileNotFoundError:
                yield step, "was not finished"
            except DamagedRecordError as error:
                yield step, f"cannot be trusted ({error})"
            else:
                same = measured(self.file(step)).items() <= before.items()
                yield step, None if same else "is damaged, for its sum is another"

    def read(self, step: int, like: State) -> State:
        """The state of a file that is whole."""
        file = self.file(step)
        try:
            held = load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} cannot be read ({error})") from error
        wanted = named(like)
        for name in sorted({*held, *wanted}):
            own, other = held.get(name), wanted.get(name)
            if own is None or other is None or (own.shape, own.dtype) != (other.shape, other.dtype):
                raise CheckpointError(
                    f"{file} is the state of another model or optimiser, for {name} differs; give "
                    "the run a folder of its own"
                )
        leaves = [jax.device_put(held[name], leaf.sharding) for name, leaf in wanted.items()]
        found: State = jax.tree.unflatten(jax.tree.structure(like), leaves)
        return found
