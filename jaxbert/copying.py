"""A model in another process, or a second one in this: what travels and what is opened again.

The weights of a folder stay in the folder: a pickle says where it is, which files they are and
their SHA-256. Weights that no folder holds travel as NumPy arrays. Tokenizer, settings, planner and
attention always travel; locks, threads and compiled programs never do.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.opening import open_at
from jaxbert.checkpoint.source import Origin, Source
from jaxbert.checkpoint.sums import sha256
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError, InputError, ModelNotFoundError
from jaxbert.model.copyable import check_pickles
from jaxbert.model.module import first_weight


class Weights(NamedTuple):
    """In a pickle: where the parts of a model are opened again, and what they must be."""

    origin: Origin
    sums: dict[str, str]
    dtype: str
    attention: Any


class Places(NamedTuple):
    """In a pickle: devices as their places among those of a process; None: none were given."""

    indices: list[int] | None

    @classmethod
    def of(cls, devices: Sequence[jax.Device] | None) -> "Places":
        """The places of these devices in this process."""
        there = jax.local_devices()
        return cls(None if devices is None else [there.index(device) for device in devices])

    def devices(self) -> list[jax.Device] | None:
        """The devices at these places in this process; InputError where there are less."""
        if self.indices is None:
            return None
        there = jax.local_devices()
        if max(self.indices, default=0) >= len(there):
            raise InputError(
                f"the pickled model ran on device {max(self.indices)}, and this process has "
                f"{len(there)} devices; make it with devices=None before it is pickled"
            )
        return [there[index] for index in self.indices]


# --- into a pickle -------------------------------------------------------------------------------


def weights_of(parts: Mapping[str, Any], source: Source | None) -> Weights | dict[str, Any]:
    """What travels for parts of a model: their folder, or themselves where it holds others."""
    encoder = parts["encoder"]
    if source is None or not source.has(tuple(parts.values())):
        return dict(parts)
    check_pickles(encoder.attention, "attention")
    sums = source.origin.sums()
    dtype = first_weight(encoder.embeddings).dtype.name
    # The files may have been written while their sums were computed.
    unchanged = source.origin.unchanged()
    return Weights(source.origin, sums, dtype, encoder.attention) if unchanged else dict(parts)


def state(own: Any) -> dict[str, Any]:
    """Everything that a pickle of a model holds."""
    return {
        "arguments": own._arguments(),
        "parts": weights_of(own._parts, own._source),
        "more": {name: value for name, value in vars(own).items() if name not in own._made},
    }


# --- out of a pickle -----------------------------------------------------------------------------


def opened(
    home: Any, found: Weights | dict[str, Any], device: jax.Device | None
) -> tuple[dict[str, Any], Source | None]:
    """The parts of a pickled model on a device, and where they came from.

    Raises ModelNotFoundError where the folder is not here, CheckpointError where it is another.
    """
    if isinstance(found, dict):
        return found, None
    origin = located(found.origin, home._anew)
    for file, expected in found.sums.items():
        path = origin.folder / file
        if not path.is_file() or sha256(path) != expected:
            raise CheckpointError(
                f"{path} is not the file that the model had when it was pickled; load the model "
                "again with from_pretrained, or restore the folder"
            )
    again = open_at(origin.name, origin.root, origin.folder, origin.ignore_config)
    encoder = Encoder.from_checkpoint(
        again.stored, dtype=found.dtype, attention=found.attention, device=device
    )
    parts = {"encoder": encoder, **home._heads(again.stored, device)}
    source = Source.of(again, tuple(parts.values()))
    return parts, replace(source, origin=replace(source.origin, revision=origin.revision))


def restored(home: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the model's class, by name, for what `state` gave."""
    arguments = {
        name: value.devices() if isinstance(value, Places) else value
        for name, value in state["arguments"].items()
    }
    devices = arguments.get("devices")
    parts, source = opened(home, state["parts"], devices[0] if devices else None)
    return {**parts, **arguments, "source": source}


def located(origin: Origin, anew: str) -> Origin:
    """The origin with its folder on this machine, fetched where it came from the hub."""
    if origin.folder.is_dir():
        return origin
    package = origin.name in (hub.DEFAULT_MODEL, hub.DEFAULT_MODEL.split("/")[1])
    if origin.revision is None and not package:
        raise ModelNotFoundError(
            f"{origin.root}, which holds the weights of a pickled model, is not on this machine; "
            f"put it there, or pickle {anew}, whose weights travel"
        )
    root = hub.resolve(origin.name, revision=origin.revision)
    return replace(origin, root=Path(root).absolute())


# --- in this process -----------------------------------------------------------------------------


def copied(own: Any, memo: dict[int, Any] | None = None) -> Any:
    """A second model that shares arrays and programs; with memo also parts are copied."""
    new = object.__new__(type(own))
    vars(new).update(vars(own))
    parts = own._parts
    if memo is not None:
        memo[id(own)] = new
        more = {name: value for name, value in vars(own).items() if name not in own._made}
        vars(new).update(copy.deepcopy(more, memo))
        new.tokenizer = copy.deepcopy(own.tokenizer, memo)
        parts = {name: jax.tree.map(lambda leaf: leaf, part) for name, part in parts.items()}
    new._take(parts)
    return new
