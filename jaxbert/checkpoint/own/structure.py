"""What an encoder is made of, as JSON: the classes of its modules and their fields, no numbers.

Code has no place in a folder and is never imported by a name found in one. So the folder names it,
by module and qualified name, and the code that a caller passes must have these names.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxbert.errors import CheckpointError, shown
from jaxbert.model.attention import is_exact

# The parts of an encoder that may be a user's own, by the arguments of its constructor.
PARTS = ("position", "feed_forward", "attention", "components", "layers", "embeddings")
# The modules of an encoder, and its attention.
FIELDS = ("embeddings", "position", "layers", "final_norm", "attention")
# What stands for every attention of the package: all compute the same.
SOFTMAX = "softmax"
# A field of nnx's own in every module.
OF_NNX = "_pytree__"
# module:qualified.name, as `dotted` gives it.
NAME = re.compile(r"[\w.-]+:[\w.]+")
# The module of a class in the program that was started or in a notebook, whatever its file.
MAIN = "__main__"


def dotted(code: Any) -> str | None:
    """The name module:qualified.name of a class or function that can be imported; else None."""
    module, name = getattr(code, "__module__", None), getattr(code, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or "<" in name:
        return None
    return f"{module}:{name}"


def named(code: Any, path: str) -> str:
    """The dotted name of code; CheckpointError for a lambda, a partial or what a function holds."""
    name = dotted(code)
    if name is None:
        raise CheckpointError(
            f"{path} is {shown(code)}, which has no name to be imported by, so no folder can name "
            "it; define a class or function at the top level of a module"
        )
    return name


def is_array(value: Any) -> bool:
    """Whether a value is a weight or constant, which the file of tensors holds.

    A NumPy scalar is none: nnx takes it for a setting.
    """
    if isinstance(value, np.generic):
        return False
    return isinstance(value, nnx.Variable) or (hasattr(value, "dtype") and hasattr(value, "shape"))


def described(value: Any, path: str) -> Any:
    """A field as JSON; a module as its class and fields. Raises CheckpointError, naming it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic):
        return described(value.item(), path)
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if is_exact(value):
        return SOFTMAX
    if isinstance(value, nnx.Pytree):
        return {"class": named(type(value), path)} | of_fields(fields_of(value), path)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return {"class": named(type(value), path)} | of_fields(held, path)
    if isinstance(value, Mapping):
        return of_fields({str(key): held for key, held in value.items()}, path)
    if isinstance(value, list | tuple):
        return [
            None if is_array(held) else described(held, f"{path}.{i}")
            for i, held in enumerate(value)
        ]
    if isinstance(value, np.dtype):
        return value.name
    return named(value, path)


def fields_of(module: nnx.Pytree) -> dict[str, Any]:
    """The fields of a module, without those of nnx."""
    return {name: value for name, value in vars(module).items() if not name.startswith(OF_NNX)}


def of_fields(held: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Fields as JSON, in the order of their names; arrays are left out."""
    return {
        name: described(value, f"{path}.{name}")
        for name, value in sorted(held.items())
        if not is_array(value)
    }


def structure(encoder: Any) -> dict[str, Any]:
    """All modules of an encoder by path, and its attention; CheckpointError for nameless code."""
    return {name: described(getattr(encoder, name), name) for name in FIELDS}


# --- two of them ---------------------------------------------------------------------------------


def same_name(own: str, other: str) -> bool:
    """Whether two strings are equal, or name one class, at least one of them in __main__."""
    if own == other:
        return True
    (module, _, name), (others, _, other_name) = own.partition(":"), other.partition(":")
    return bool(name) and name == other_name and MAIN in (module, others)


def differences(own: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, own, other) wherever two structures differ."""
    if isinstance(own, dict) and isinstance(other, dict):
        for name in sorted({*own, *other}, key=lambda name: (name != "class", name)):
            here = path if name == "class" else f"{path}.{name}".removeprefix(".")
            yield from differences(own.get(name), other.get(name), here)
    elif isinstance(own, list) and isinstance(other, list) and len(own) == len(other):
        for i, pair in enumerate(zip(own, other, strict=True)):
            yield from differences(*pair, f"{path}.{i}")
    elif isinstance(own, str) and isinstance(other, str):
        if not same_name(own, other):
            yield path, own, other
    elif type(own) is not type(other) or own != other:
        yield path, own, other


def foreign(found: Any) -> Iterator[str]:
    """The names of the code that is not the package's, as they come in a structure."""
    if isinstance(found, dict):
        for value in found.values():
            yield from foreign(value)
    elif isinstance(found, list):
        for value in found:
            yield from foreign(value)
    elif isinstance(found, str) and NAME.fullmatch(found) and not found.startswith("jaxbert."):
        yield found
