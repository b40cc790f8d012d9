"""The tensors of a folder's safetensors files, read with errors of our own.

Only safetensors are read: a pickle can run code, and no code of a checkpoint runs here.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from jaxbert.checkpoint.files import is_there, opened_file
from jaxbert.checkpoint.json_file import read_object
from jaxbert.checkpoint.sums import check_sum
from jaxbert.checkpoint.zeros import check_zeros
from jaxbert.errors import CheckpointError

# Weights of trained encoders are below 100; a flipped high bit of an exponent makes 1e9 and more.
LARGEST = 1e6
# Bytes: where an array must begin for JAX to take it as it is.
ALIGNMENT = 64
# Stored dtypes that weights may have, and NumPy's names of them.
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
INTEGERS = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")
# What NumPy can hold; heads and other tensors that are only carried along may be of it.
READABLE = (*FLOATS, *INTEGERS, "F64", "BOOL")


@dataclass(frozen=True)
class Entry:
    """One stored tensor: its published name, its file, dtype and shape."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index lists."""
    index = folder / "model.safetensors.index.json"
    if is_there(folder / "model.safetensors"):
        return [folder / "model.safetensors"]
    if is_there(index):
        names = read_object(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise CheckpointError(f"{index} has no weight_map; restore it")
        files = [folder / name for name in sorted({str(name) for name in names.values()})]
        for file in files:
            if file.parent != folder or not is_there(file):
                raise CheckpointError(f"{index} lists {file.name}, which is not there; restore it")
        return files
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise CheckpointError(
            f"{folder} has its weights only as {pickles[0].name}, a pickle, which is never opened "
            "here because it can run code; convert/from_torch.py turns it into safetensors"
        )
    raise CheckpointError(f"{folder} has no model.safetensors, so there are no weights to load")


@contextmanager
def opened(file: Path) -> Iterator[Any]:
    """The file as safetensors; CheckpointError for damage, and for what is no regular file."""
    with opened_file(file):  # which says what stands there, if it is not weights
        pass
    try:
        with safe_open(file, framework="np") as tensors:
            yield tensors
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); fetch it again") from error


def headers(file: Path) -> Iterator[Entry]:
    """What the file says it holds."""
    with opened(file) as tensors:
        for name in tensors.keys():  # noqa: SIM118
            part = tensors.get_slice(name)
            yield Entry(name, file, part.get_dtype(), tuple(part.get_shape()))


@contextmanager
def readers(files: Sequence[Path], zeros: bool = False) -> Iterator[Callable[[Entry], np.ndarray]]:
    """A function that reads the tensor of an entry, and refuses numbers that are no weights.

    Those are NaN, infinity, what lies beyond all weights, and, unless `zeros`, zeros where numbers
    were lost. Meanwhile files whose checksum is known are compared with it; that error goes before
    others.
    """

    def read(entry: Entry) -> np.ndarray:
        if entry.dtype not in READABLE:
            raise CheckpointError(
                f"{entry.name} is stored as {entry.dtype}, which NumPy does not have; remove it"
            )
        tensor: np.ndarray = handles[entry.file].get_tensor(entry.name)
        if entry.dtype in FLOATS:
            check_numbers(tensor, entry.name)
            if not zeros:
                check_zeros(tensor, entry.name)
        return tensor

    with ThreadPoolExecutor(1) as pool:
        checks = [pool.submit(check_sum, file) for file in files]
        try:
            handles: dict[Path, Any] = {file: safe_open(file, framework="np") for file in files}
            yield read
        except (SafetensorError, OSError) as error:
            folder = files[0].parent
            raise CheckpointError(f"{folder} is damaged ({error}); fetch it again") from error
        finally:
            for check in checks:
                check.result()


def check_numbers(tensor: np.ndarray, name: str) -> None:
    """Refuse what no training leaves behind: NaN, infinity, or a flipped bit of an exponent."""
    wide = tensor.astype(np.float32, copy=False)
    largest = np.maximum(-wide.min(initial=0.0), wide.max(initial=0.0))  # NaN where there is one
    if not np.isfinite(largest):
        raise CheckpointError(f"{name} holds NaN or infinity; fetch the weights again")
    if largest > LARGEST:
        raise CheckpointError(f"{name} holds {largest:.1e}, which is no weight; fetch it again")


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """float32 numbers to be filled, where JAX on a CPU takes them without a copy."""
    size = 4 * math.prod(shape)
    room = np.empty(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size].view(np.float32).reshape(shape)
