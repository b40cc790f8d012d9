"""An embedder in another process, or a second one in this: what travels and what is opened again.

The weights of a folder stay in the folder: a pickle says where it is, which files they are and
their SHA-256. Weights that no folder holds travel as NumPy arrays. Tokenizer, settings, planner and
attention always travel; locks, threads and compiled programs never do.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.opening import open_at
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.source import Origin, Source
from jaxbert.checkpoint.sums import sha256
from jaxbert.encoder import Encoder
from jaxbert.errors import CheckpointError, InputError, ModelNotFoundError
from jaxbert.model.copyable import check_pickles
from jaxbert.model.module import first_weight


class Weights(NamedTuple):
    """In a pickle: where an encoder is opened again, and what it must be."""

    origin: Origin
    sums: dict[str, str]
    dtype: str
    attention: Any


# --- into a pickle -------------------------------------------------------------------------------


def weights_of(encoder: Encoder, source: Source | None) -> Weights | Encoder:
    """What travels for an encoder: its folder, or itself where the folder holds other weights."""
    if source is None or not source.has(encoder):
        return encoder
    check_pickles(encoder.attention, "attention")
    sums = source.origin.sums()
    dtype = first_weight(encoder.embeddings).dtype.name
    # The files may have been written while their sums were computed.
    unchanged = source.origin.unchanged()
    return Weights(source.origin, sums, dtype, encoder.attention) if unchanged else encoder


def state(own: Any) -> dict[str, Any]:
    """Everything that a pickle of an embedder holds."""
    check_pickles(own.planner, "planner")
    more = {name: value for name, value in vars(own).items() if name not in OWN}
    encoder = weights_of(own.encoder, own._source)
    return {
        "encoder": encoder,
        "tokenizer": own.tokenizer,
        "stack": independent(own.stack),
        "planner": own.planner,
        "devices": indices_of(own.engine.given_devices),
        "more": more,
    }


# The fields of an Embedder that are made again.
OWN = ("engine", "tokenizer", "_source", "_stack", "_hidden_size")


def indices_of(devices: Sequence[jax.Device] | None) -> list[int] | None:
    """Devices as their places among those of this process."""
    if devices is None:
        return None
    there = jax.local_devices()
    return [there.index(device) for device in devices]


# --- out of a pickle -----------------------------------------------------------------------------


def opened(found: Weights | Encoder, device: jax.Device | None) -> tuple[Encoder, Source | None]:
    """The encoder of a pickle on a device, and where it came from.

    Raises ModelNotFoundError where its folder is not here, CheckpointError where it is another.
    """
    if isinstance(found, Encoder):
        return found, None
    origin = located(found.origin)
    for file, expected in found.sums.items():
        path = origin.folder / file
        if not path.is_file() or sha256(path) != expected:
            raise CheckpointError(
                f"{path} is not the file that the embedder had when it was pickled; load the model "
                "again with from_pretrained, or restore the folder"
            )
    again = open_at(origin.name, origin.root, origin.folder, origin.ignore_config)
    encoder = Encoder.from_checkpoint(
        again.stored, dtype=found.dtype, attention=found.attention, device=device
    )
    source = Source.of(again, encoder)
    return encoder, replace(source, origin=replace(source.origin, revision=origin.revision))


def restored(state: dict[str, Any]) -> dict[str, Any]:
    """The arguments of Embedder, by name, for what `state` gave."""
    devices = devices_at(state["devices"])
    encoder, source = opened(state["encoder"], devices[0] if devices else None)
    given = {name: state[name] for name in ("tokenizer", "stack", "planner")}
    return {"encoder": encoder, **given, "devices": devices, "source": source}


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
    new.engine = own.engine.copied(own.encoder)
    if memo is not None:
        memo[id(own)] = new
        more = {name: value for name, value in vars(own).items() if name not in OWN}
        vars(new).update(copy.deepcopy(more, memo))
        new.tokenizer = copy.deepcopy(own.tokenizer, memo)
        new.engine = own.engine.copied(copy.deepcopy(own.encoder, memo))
    return new
