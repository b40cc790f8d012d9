"""The JSON files of a folder, read and written with errors of our own."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.sums import read_text
from jaxbert.errors import CheckpointError, shown


def read_json(file: Path) -> Any:
    """The contents of a JSON file; CheckpointError where it is none, or names a key twice."""

    def pairs(listed: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(listed)
        if len(held) < len(listed):
            twice = next(key for i, (key, _) in enumerate(listed) if key in dict(listed[:i]))
            raise CheckpointError(f"{file} has the key {shown(twice)} twice; keep one of them")
        return held

    text = read_text(file)
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); restore it") from error


def read_object(file: Path) -> dict[str, Any]:
    """The contents of a JSON file that must be an object."""
    contents = read_json(file)
    if not isinstance(contents, dict):
        raise CheckpointError(f"{file} holds no JSON object; restore it")
    return contents


def optional(file: Path) -> dict[str, Any]:
    """The contents of a JSON file that must be an object; empty where there is no file."""
    return read_object(file) if is_there(file) else {}


def typed(raw: Mapping[str, Any], key: str, kind: Any, default: Any, file: object) -> Any:
    """raw[key], which must be of this type; the default where the key is absent.

    bool is no int here: JSON keeps them apart, Python does not. NaN and infinity are no numbers.
    """
    value = raw.get(key, default)
    if value is default:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        name = getattr(kind, "__name__", str(kind))
        raise CheckpointError(f"{file} has {key} = {shown(value)}, which is no {name}; restore it")
    if isinstance(value, float) and not math.isfinite(value):
        raise CheckpointError(f"{file} has {key} = {value!r}, which is no number; restore it")
    return value


def write(file: Path, contents: Any) -> None:
    """Write contents as a JSON file; CheckpointError for what JSON has no words for."""
    try:
        text = json.dumps(contents, indent=2, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file.name} cannot say {shown(contents)} ({error})") from error
    file.write_bytes(text + b"\n")
