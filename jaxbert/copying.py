"""An embedder in another process, or a second one in this: what travels and what is opened again.

The weights of a folder stay in the folder: a pickle says where it is, which files they are and
their SHA-256. Weights that no folder holds travel as NumPy arrays. Tokenizer, settings, planner and
attention always travel; locks, threads and compiled programs never do.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self
from weakref import ReferenceType, ref

import jax

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.opening import OpenedModel, open_again
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError, InputError, ModelNotFoundError
from jaxbert.inference.runner import Tally
from jaxbert.model.copyable import check_pickles

# A file's size, its time of change and its place on the disk: others after every change.
Mark = tuple[int, int, int]


@dataclass(frozen=True)
class Origin:
    """The folder of a model that was opened, and how its files were then."""

    name: str  # as it was asked for: a path or a name on the hub
    root: Path  # the model's folder, absolute
    inner: str  # from there to the folder with the weights
    revision: str | None  # the commit, where it came from the hub
    ignore_config: tuple[str, ...]
    marks: dict[str, Mark]  # of config.json and the weight files

    @classmethod
    def of(cls, opened: OpenedModel) -> Self:
        """The origin of an opened model."""
        root, stored = opened.folder, opened.stored
        files = ["config.json", *(file.name for file in stored.files)]
        snapshot = root.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", root.name)
        return cls(
            name=opened.name,
            root=root.absolute(),
            inner=stored.folder.relative_to(root).as_posix(),
            revision=root.name if snapshot else None,
            ignore_config=opened.ignore_config,
            marks={file: mark(stored.folder / file) for file in files},
        )

    @property
    def folder(self) -> Path:
        """Where the weights are."""
        return self.root / self.inner

    def unchanged(self) -> bool:
        """Whether the files are still those that were opened."""
        try:
            return all(mark(self.folder / file) == old for file, old in self.marks.items())
        except OSError:
            return False

    def sums(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {file: sha256(self.folder / file) for file in self.marks}


def mark(file: Path) -> Mark:
    """What tells whether a file was changed."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


class Held:
    """Which weights and parts an encoder has now, without keeping them alive."""

    def __init__(self, encoder: Encoder) -> None:
        """Remember the arrays themselves: they cannot be changed, only exchanged."""
        leaves, self.tree = jax.tree.flatten(encoder)
        self.leaves: list[ReferenceType[Any]] = [ref(leaf) for leaf in leaves]

    def by(self, encoder: Encoder) -> bool:
        """Whether the encoder still has them."""
        leaves, tree = jax.tree.flatten(encoder)
        return self.tree == tree and all(  # type: ignore[operator]
            leaf is old() for leaf, old in zip(leaves, self.leaves, strict=True)
        )


class Weights(NamedTuple):
    """In a pickle: where an encoder is opened again, and what it must be."""

    origin: Origin
    sums: dict[str, str]
    dtype: str
    attention: Any


# --- into a pickle -------------------------------------------------------------------------------


def weights_of(encoder: Encoder, origin: Origin | None, held: Held) -> Weights | Encoder:
    """What travels for an encoder: its folder, or itself where the folder holds other weights."""
    if origin is None or not held.by(encoder) or not origin.unchanged():
        return encoder
    check_pickles(encoder.attention, "attention")
    sums = origin.sums()
    dtype = encoder.embeddings.word[...].dtype.name
    return Weights(origin, sums, dtype, encoder.attention) if origin.unchanged() else encoder


def state(own: Any) -> dict[str, Any]:
    """Everything that a pickle of an embedder holds."""
    check_pickles(own.planner, "planner")
    more = {name: value for name, value in vars(own).items() if name not in OWN}
    encoder = weights_of(own.encoder, own.origin, own.held)
    return {
        "encoder": encoder,
        "tokenizer": own.tokenizer,
        "stack": independent(own.stack),
        "planner": own.planner,
        "devices": indices_of(own.engine.given_devices),
        "more": more,
    }


# The fields of an Embedder that are made again.
OWN = ("engine", "tokenizer", "stored", "origin", "held", "_stack", "_hidden_size")


def indices_of(devices: Sequence[jax.Device] | None) -> list[int] | None:
    """Devices as their places among those of this process."""
    if devices is None:
        return None
    there = jax.local_devices()
    return [there.index(device) for device in devices]


# --- out of a pickle -----------------------------------------------------------------------------


def opened(
    found: Weights | Encoder, device: jax.Device | None
) -> tuple[Encoder, Origin | None, Checkpoint | None]:
    """The encoder of a pickle on a device, and where it came from.

    Raises ModelNotFoundError where its folder is not here, CheckpointError where it is another.
    """
    if isinstance(found, Encoder):
        return found, None, None
    origin = located(found.origin)
    for file, expected in found.sums.items():
        path = origin.folder / file
        if not path.is_file() or sha256(path) != expected:
            raise CheckpointError(
                f"{path} is not the file that the embedder had when it was pickled; load the model "
                "again with from_pretrained, or restore the folder"
            )
    again = open_again(origin.name, origin.root, origin.folder, origin.ignore_config)
    encoder = Encoder.from_checkpoint(
        again.stored, dtype=found.dtype, attention=found.attention, device=device
    )
    return encoder, replace(Origin.of(again), revision=found.origin.revision), again.stored


def restored(state: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of Embedder for what `state` gave, and the fields to set on it."""
    devices = devices_at(state["devices"])
    encoder, origin, stored = opened(state["encoder"], devices[0] if devices else None)
    parts = (state["tokenizer"], state["stack"], state["planner"], devices)
    return (encoder, *parts), {**state["more"], "origin": origin, "stored": stored}


def located(origin: Origin) -> Origin:
    """The origin with its folder on this machine, fetched where it came from the hub."""
    if origin.folder.is_dir():
        return origin
    package = origin.name in (hub.DEFAULT_MODEL, hub.DEFAULT_MODEL.split("/")[1])
    if origin.revision is None and not package:
        raise ModelNotFoundError(
            f"{origin.root}, which holds the weights of a pickled embedder, is not on this "
            "machine; put it there, or pickle Embedder(embedder.encoder, embedder.tokenizer, "
            "embedder.stack), whose weights travel"
        )
    root = hub.resolve(origin.name, revision=origin.revision)
    return replace(origin, root=Path(root).absolute())


def devices_at(indices: list[int] | None) -> list[jax.Device] | None:
    """The devices at these places among those of this process; InputError where there are less."""
    if indices is None:
        return None
    there = jax.local_devices()
    if max(indices, default=0) >= len(there):
        raise InputError(
            f"the pickled embedder ran on device {max(indices)}, and this process has "
            f"{len(there)} devices; make it with devices=None before it is pickled"
        )
    return [there[index] for index in indices]


def independent(stack: Stack) -> Stack:
    """The same settings, none of which is shared."""
    return replace(stack, prompts=dict(stack.prompts))


# --- in this process -----------------------------------------------------------------------------


def copied(own: Any, memo: dict[int, Any] | None = None) -> Any:
    """A second embedder that shares arrays and programs; with memo also parts are copied."""
    new = object.__new__(type(own))
    vars(new).update(vars(own))
    new.prompts = dict(own.prompts)  # which check changes with the new one's default
    new.engine = copy.copy(own.engine)
    new.engine.tally = Tally()
    if memo is not None:
        memo[id(own)] = new
        more = {name: value for name, value in vars(own).items() if name not in OWN}
        vars(new).update(copy.deepcopy(more, memo))
        new.tokenizer = copy.deepcopy(own.tokenizer, memo)
        new.engine.encoder = copy.deepcopy(own.encoder, memo)
    return new


def moved(own: Any, place: Path) -> None:
    """After saving into the folder that the model came from, what it names is found there."""
    if own.tokenizer.folder is not None and inside(own.tokenizer.folder, place):
        own.tokenizer.folder = place
    if own.stored is None or not inside(own.stored.folder, place):
        return
    entries, unused = (
        {name: replace(entry, file=place / entry.file.name) for name, entry in some.items()}
        for some in (own.stored.entries, own.stored.unused)
    )
    own.stored = replace(own.stored, folder=place, entries=entries, unused=unused)
    if own.origin is not None:
        own.origin = Origin.of(OpenedModel(str(place), place, own.stored, own.origin.ignore_config))
        own.held = Held(own.encoder)


def inside(folder: Path, place: Path) -> bool:
    """Whether a folder is this one or below it."""
    return folder.resolve().is_relative_to(place)
