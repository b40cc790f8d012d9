"""NumPy arrays and torch's tensors, and the device where they are.

torch is imported when a tensor is made or a device is asked for, never before.
"""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from jaxbert.errors import JaxbertError
from jaxbert.process.backend import backend


class TorchMissingError(JaxbertError, ImportError):
    """A tensor was asked for, and torch is not installed."""


@cache
def has_torch() -> bool:
    """Whether torch is installed; it is not imported."""
    return "torch" in sys.modules or importlib.util.find_spec("torch") is not None


def torch() -> Any:
    """The module torch. Raises TorchMissingError."""
    if not has_torch():
        raise TorchMissingError(
            "a tensor was asked for and torch is not installed; leave convert_to_tensor out, or "
            "install torch"
        )
    return importlib.import_module("torch")


def is_tensor(value: Any) -> bool:
    """Whether a value is a torch.Tensor; none is where torch has not been imported."""
    module = sys.modules.get("torch")
    return module is not None and isinstance(value, module.Tensor)


def as_tensor(array: np.ndarray) -> Any:
    """The tensor of an array, on the device where code for torch expects it."""
    array = np.ascontiguousarray(array)
    array = array if array.flags.writeable else array.copy()  # those of JAX are not
    return torch().from_numpy(array).to(tensor_device())


def as_theirs(array: Any) -> Any:
    """A tensor of what sentence-transformers gives as one, if torch is installed; else the array.

    Lists and dicts are changed in their items.
    """
    if not has_torch():
        return array
    if isinstance(array, np.ndarray):
        return as_tensor(array)
    if isinstance(array, Mapping):
        return {name: as_theirs(item) for name, item in array.items()}
    return [as_theirs(item) for item in array] if isinstance(array, list) else array


def as_numpy(value: Any) -> Any:
    """The NumPy array of a tensor, or of a list of them; anything else as it is.

    bfloat16, which NumPy does not have, becomes float32.
    """
    if isinstance(value, list | tuple) and len(value) and is_tensor(value[0]):
        return np.stack([as_numpy(item) for item in value])
    if not is_tensor(value):
        return value
    still = value.detach().cpu()
    return (still.float() if str(still.dtype) == "torch.bfloat16" else still).numpy()


class Device:
    """A device's name where torch is not installed: type and index as a torch.device has them."""

    def __init__(self, name: str) -> None:
        """name is that of torch, such as "cpu" or "cuda"."""
        self.type, self.index = name, None

    def __str__(self) -> str:
        """The name alone, as torch prints it."""
        return self.type

    def __repr__(self) -> str:
        """How it would be made in torch."""
        return f"device(type={self.type!r})"

    def __eq__(self, other: object) -> bool:
        """Whether the other is of the same name, also as a str."""
        return str(other) == self.type

    def __hash__(self) -> int:
        """As its name is hashed."""
        return hash(self.type)


def tensor_device() -> Any:
    """Where tensors are made: torch's GPU if JAX runs on one and torch can use it, else the CPU."""
    name = "cpu"
    if backend() == "gpu" and has_torch() and torch().cuda.is_available():
        name = "cuda"
    return torch().device(name) if has_torch() else Device(name)
