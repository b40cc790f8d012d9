"""A folder for an encoder with parts of a user's own code: three files, read as they are written.

config.json has model_type "jaxbert", which no other library takes for a model that it knows, and
the fields of the encoder's config. model.safetensors holds every array by its own path: weights,
and constants whatever made them, for a constructor may be called otherwise the next time.
jaxbert.json names the code and has the SHA-256 of the weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import read_object, typed, write
from jaxbert.checkpoint.model_types.table import BY_CONFIG, OWN
from jaxbert.checkpoint.module import weights
from jaxbert.checkpoint.own.structure import PARTS, foreign, structure
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensor_file import READABLE, headers
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, ConfigError, shown
from jaxbert.model.config import EncoderConfig

RECORD, WEIGHTS, CONFIG = "jaxbert.json", "model.safetensors", "config.json"
# What `write_own` writes; a folder of another number is not understood.
FORMAT = 1
CONFIGS: Mapping[str, type[EncoderConfig]] = {kind.__name__: kind for kind in BY_CONFIG}


@dataclass(frozen=True)
class OwnCheckpoint(Checkpoint):
    """An opened folder with parts of a user's own code; entries are by the paths of the arrays."""

    parts: tuple[str, ...] = ()  # which arguments of Encoder have to be passed
    structure: Mapping[str, Any] | None = None  # what they must be
    sum: str = ""  # SHA-256 of the weights

    def code(self) -> str:
        """The code that is needed, as text for a user."""
        found = dict.fromkeys(foreign(dict(self.structure or {})))
        return ", ".join(found) or "classes of jaxbert that its config does not name"

    def form(self) -> str:
        """The argument that passes the code, as text for a user."""
        return "parts={" + ", ".join(f'"{name}": ...' for name in self.parts) + "}"


# --- writing -------------------------------------------------------------------------------------


def write_own(module: Any, parts: Mapping[str, Any], room: Path) -> None:
    """The three files of an encoder that was made of these parts, into an empty folder."""
    found = structure(module)
    write(room / CONFIG, raw_config(module.config))
    save_file(arrays(module), room / WEIGHTS, metadata={"format": OWN})
    given = [name for name in PARTS if name in parts]
    sums = sha256(room / WEIGHTS)
    write(room / RECORD, {"format": FORMAT, "parts": given, "sha256": sums, "encoder": found})


def arrays(module: Any) -> dict[str, np.ndarray]:
    """Every leaf as a NumPy array; CheckpointError for what a file of tensors cannot hold."""
    held = {}
    for path, leaf in weights(module).items():
        try:
            held[path] = np.array(leaf, order="C")
        except TypeError as error:  # the keys of random numbers
            raise CheckpointError(
                f"{path} is {leaf.dtype}, which a file of tensors cannot hold; keep it outside the "
                "encoder"
            ) from error
    return held


def raw_config(config: EncoderConfig) -> dict[str, Any]:
    """config.json: the class of the config and its fields."""
    return {"model_type": OWN, "config": type(config).__name__, **asdict(config)}


# --- reading -------------------------------------------------------------------------------------


def is_own(folder: Path) -> bool:
    """Whether a folder's config.json says that its encoder has parts of a user's own code."""
    file = folder / CONFIG
    return is_there(file) and read_object(file).get("model_type") == OWN


def open_own(folder: Path) -> OwnCheckpoint:
    """The folder's config, the headers of its arrays, and the code that it needs.

    Raises CheckpointError for what is damaged, missing or not understood.
    """
    raw, record = read_object(folder / CONFIG), folder / RECORD
    if not is_there(record):
        raise CheckpointError(f"{folder} lacks {RECORD}, which names the code that its parts need")
    said = read_object(record)
    if said.get("format") != FORMAT:
        raise CheckpointError(
            f"{record} has format = {shown(said.get('format'))}; this version reads {FORMAT}"
        )
    parts = typed(said, "parts", list, [], record)
    found = typed(said, "encoder", dict, {}, record)
    if not parts or not found or not all(name in PARTS for name in parts):
        raise CheckpointError(f"{record} does not name parts of an encoder; restore it")
    entries = {entry.name: entry for entry in headers(weight_file(folder))}
    for entry in entries.values():
        if entry.dtype not in READABLE:
            raise CheckpointError(f"{entry.name} is stored as {entry.dtype}, which no weight is")
    config, sums = read_config(raw), typed(said, "sha256", str, "", record)
    more = {"parts": tuple(parts), "structure": found, "sum": sums}
    return OwnCheckpoint(folder, raw, config, OWN, entries, {}, **more)


def weight_file(folder: Path) -> Path:
    """The file of the arrays, which must be there."""
    if not is_there(folder / WEIGHTS):
        raise CheckpointError(f"{folder} has no {WEIGHTS}, so there are no weights to load")
    return folder / WEIGHTS


def read_config(raw: Mapping[str, Any]) -> EncoderConfig:
    """The config whose class and fields config.json has, all of them and no others."""
    kind = raw.get("config")
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise CheckpointError(
            f"config.json has config = {shown(kind)}; understood are {', '.join(CONFIGS)}"
        )
    values = {key: value for key, value in raw.items() if key not in ("model_type", "config")}
    names = {field.name for field in fields(CONFIGS[kind])}
    for name in sorted({*values} ^ names):
        reason = "lacks" if name in names else "has"
        raise CheckpointError(f"config.json {reason} {shown(name)}, a {kind} does not; restore it")
    try:
        return CONFIGS[kind](**values)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"config.json describes no encoder: {error}") from error
