"""Mutations of the numbers in a safetensors file, and what takes such a file apart."""

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from tests.attack.spoil import OTHER, REFUSED, Folder, Mutation, Spoiled

ENDING = ".safetensors"
DTYPES: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": bfloat16, "I64": np.int64}
# No weight of a trained encoder is as large.
LARGEST = 1e6
# Rows of such tables may well be zero: padding, or tokens never seen.
TABLES = re.compile(r".*embeddings\.\w+_embeddings\.weight")
# Zeros in a row that no training leaves in a matrix.
RUN = 64
UNUSED = re.compile(r"(.*\.)?(pooler|cls|classifier|qa_outputs)\..*|.*position_ids")


@dataclass
class Weights:
    """A safetensors file taken apart."""

    file: Path
    header: dict[str, Any]
    data: bytearray

    @classmethod
    def read(cls, file: Path) -> "Weights":
        """Open a whole file."""
        contents = file.read_bytes()
        size = struct.unpack("<Q", contents[:8])[0]
        return cls(file, json.loads(contents[8 : 8 + size]), bytearray(contents[8 + size :]))

    def write(self, text: str = "") -> None:
        """Write it back, with another header where a text is given."""
        header = (text or json.dumps(self.header)).encode("utf-8", "surrogatepass")
        header += b" " * (-len(header) % 8)
        self.file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(self.data))

    @property
    def names(self) -> list[str]:
        """The tensors."""
        return [name for name in self.header if name != "__metadata__"]

    def span(self, name: str) -> tuple[int, int]:
        """Where the bytes of a tensor lie."""
        first, last = self.header[name]["data_offsets"]
        return first, last

    def numbers(self, name: str) -> np.ndarray:
        """The numbers of a tensor, flat, to be read and set."""
        first, last = self.span(name)
        dtype = DTYPES[self.header[name]["dtype"]]
        return np.frombuffer(memoryview(self.data)[first:last], dtype)


def opened(folder: Folder, random: Random) -> Weights | None:
    """One of the weight files; that of a Dense module as often as another."""
    file = folder.pick(random, ENDING)
    return None if file is None else Weights.read(file)


def impossible(weights: Weights, names: Iterator[str] | list[str]) -> bool:
    """Whether one of the tensors holds what no training leaves behind."""
    for name in names:
        with np.errstate(invalid="ignore"):
            wide = weights.numbers(name).astype(np.float64)
        if not UNUSED.fullmatch(name) and not (np.abs(wide) <= LARGEST).all():
            return True
        if name.endswith("position_ids") and (wide != np.arange(len(wide))).any():
            return True
    return False


# --- numbers -----------------------------------------------------------------------------------


def flipped(folder: Folder, random: Random) -> Spoiled | None:
    """One bit of the numbers is the other; the high bits of exponents as often as all others."""
    weights = opened(folder, random)
    if weights is None:
        return None
    name = random.choice(weights.names)
    first, last = weights.span(name)
    width = np.dtype(DTYPES[weights.header[name]["dtype"]]).itemsize
    place = random.randrange(first, last)
    bit = random.randrange(8)
    if random.random() < 0.5:
        place, bit = first + (place - first) // width * width + width - 1, 6
    weights.data[place] ^= 1 << bit
    weights.write()
    allowed = REFUSED if impossible(weights, [name]) else OTHER
    title = f"{folder.title(weights.file)} {name}"
    return Spoiled(f"{title}: bit {bit} of byte {place - first} flipped", allowed)


def odd_number(folder: Folder, random: Random) -> Spoiled | None:
    """One weight is no weight."""
    weights = opened(folder, random)
    if weights is None:
        return None
    name = random.choice(weights.names)
    if name.endswith("position_ids"):
        return None
    value = random.choice((np.nan, np.inf, -np.inf, 1e9, -3e7, 1e30))
    numbers = weights.numbers(name)
    with np.errstate(over="ignore"):
        numbers[random.randrange(len(numbers))] = value
    weights.write()
    allowed = REFUSED if impossible(weights, [name]) else OTHER
    return Spoiled(f"{folder.title(weights.file)} {name} holds {value}", allowed)


def zeroed(folder: Folder, random: Random) -> Spoiled | None:
    """A block of zeros: a download into room taken before, a lost block, a sparse copy."""
    weights = opened(folder, random)
    if weights is None:
        return None
    whole = len(weights.data)
    how = random.choice(("end", "block", "matrix"))
    if how == "matrix":
        name = random.choice(weights.names)
        first, last = weights.span(name)
    elif how == "end":
        first, last = whole - int(whole * random.choice((1.0, 0.5, 0.1))), whole
    else:
        first = random.randrange(whole) // 512 * 512
        last = min(whole, first + random.choice((512, 1024, 4096)))
    before = bytes(weights.data)
    weights.data[first:last] = bytes(last - first)
    if before == weights.data:
        return None
    lost = [name for name in weights.names if lost_numbers(weights, name)]
    weights.write()
    title = f"{folder.title(weights.file)} with zeros from {first} to {last} of {whole}"
    return Spoiled(title, REFUSED if lost else OTHER)


def lost_numbers(weights: Weights, name: str) -> bool:
    """Whether a matrix of products has a run of zeros, or a norm has nothing else."""
    if UNUSED.fullmatch(name) or TABLES.fullmatch(name) or name.endswith("bias"):
        return False
    numbers = weights.numbers(name).astype(np.float32)
    edges = np.flatnonzero(np.concatenate([[True], numbers != 0, [True]]))
    return bool(np.diff(edges).max() > min(RUN, len(numbers)))


WEIGHTS: list[Mutation] = [flipped, flipped, odd_number, zeroed, zeroed]
