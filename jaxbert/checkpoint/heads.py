"""The head of a model that has one beside its encoder: its tensors, by name, and its weights."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.tensor_file import FLOATS, Entry, readers
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensor_names.spelling import PREFIX, listing, spelled_out
from jaxbert.checkpoint.tensors import Checkpoint, check_shape
from jaxbert.errors import CheckpointError
from jaxbert.process.backend import computing

Head = TypeVar("Head", bound=Any)


def beside(stored: Checkpoint) -> dict[str, Entry]:
    """The tensors that the encoder does not use, by name without prefix, in today's spelling."""
    found: dict[str, Entry] = {}
    for name, entry in stored.unused.items():
        match = PREFIX.match(name)
        plain = spelled_out(name[match.end() if match else 0 :])
        if plain in found:
            raise CheckpointError(f"{plain} is stored in two spellings; keep one of them")
        found[plain] = entry
    return found


def left_aside(stored: Checkpoint, used: Collection[str]) -> tuple[str, ...]:
    """The names, in order, of the tensors that neither the encoder uses nor a head of these."""
    return tuple(sorted(set(beside(stored)) - set(used)))


def tensors_beside(stored: Checkpoint, names: Collection[str]) -> dict[str, np.ndarray]:
    """The tensors of these names that stand beside the encoder, as stored: for the reference."""
    there = {name: entry for name, entry in beside(stored).items() if name in names}
    with readers(sorted({entry.file for entry in there.values()}), stored.zeros) as read:
        return {name: read(entry) for name, entry in there.items()}


def load_head(
    stored: Checkpoint,
    table: Sequence[Rule],
    make: Callable[[], Head],
    device: jax.Device | None = None,
) -> Head:
    """make() with the stored tensors of these rules in its leaves, in float32.

    Raises CheckpointError for a tensor that is missing, misshapen, of another dtype or not finite.
    """
    there = beside(stored)
    missing = sorted(rule.name for rule in table if rule.name not in there)
    if missing:
        raise CheckpointError(f"{stored.folder} lacks {listing(missing)}; fetch the weights again")
    with computing():
        empty = jax.eval_shape(make)
        shapes = {path: leaf.shape for path, leaf in weights(empty).items()}
        read = tensors_of(stored, table, there, shapes)
        leaves = jax.device_put([read[path] for path in shapes], device)
    return jax.tree.unflatten(jax.tree.structure(empty), leaves)


def tensors_of(
    stored: Checkpoint,
    table: Sequence[Rule],
    there: Mapping[str, Entry],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """The weights of a head by path, in our layout and in float32."""
    found = {}
    for rule in table:
        entry = there[rule.name]
        check_shape(entry, rule.published_shape(shapes[rule.path]))
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.name} is stored as {entry.dtype}; understood are {', '.join(FLOATS)}"
            )
    files = sorted({there[rule.name].file for rule in table})
    with readers(files, stored.zeros) as read:
        for rule in table:
            tensor = read(there[rule.name]).astype(np.float32)
            found[rule.path] = np.ascontiguousarray(rule.unpack(tensor, shapes[rule.path]))
    return found
