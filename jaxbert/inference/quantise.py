"""Vectors in fewer bits: int8 and uint8 by ranges, binary by sign.

Source: sentence-transformers 6.2, util/quantization.py, whose numbers these are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from jaxbert.arguments import array, choice, path
from jaxbert.errors import InputError, InputTypeError, WriteError

Precision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
DTYPES = {
    "float32": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
# The fewest vectors that ranges are taken from where none are passed: below, the bytes of a vector
# would depend more on the other vectors than on itself. sentence-transformers warns below this too.
FEWEST = 100
STEPS = 255


@dataclass(frozen=True)
class Ranges:
    """The least and the largest value of each feature, which int8 and uint8 divide into 255 steps.

    Vectors can be compared only if their ranges are the same: store them with the vectors.
    """

    low: np.ndarray  # [d] float32
    high: np.ndarray  # [d] float32

    def __post_init__(self) -> None:
        """Convert both to float32 [d]. Raises InputError unless they are finite and low <= high."""
        for name in ("low", "high"):
            with np.errstate(over="ignore"):
                bound = array(getattr(self, name), f"{name} of the ranges").astype(np.float32)
            object.__setattr__(self, name, bound)
        if self.low.shape != self.high.shape or self.low.ndim != 1:
            raise InputError(
                f"ranges have the shapes {self.low.shape} and {self.high.shape}; pass the least "
                "and the largest value of each feature, [2, d]"
            )
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise InputError("ranges hold NaN or infinity; take them from finite vectors")
        if (self.low > self.high).any():
            raise InputError("ranges have a low above the high; pass [least, largest]")

    @classmethod
    def of(cls, vectors: np.ndarray) -> Self:
        """The ranges of calibration vectors [n, d]: hundreds, similar to those to quantise."""
        vectors = array(vectors, "vectors")
        if vectors.ndim != 2 or not len(vectors):
            raise InputError(f"ranges are taken from vectors [n, d], not from {vectors.shape}")
        return cls(vectors.min(axis=0), vectors.max(axis=0))

    @classmethod
    def given(cls, value: "Ranges | np.ndarray | Sequence[Sequence[float]]") -> Self:
        """Ranges from Ranges, or from an array [2, d] as sentence-transformers takes it."""
        if isinstance(value, Ranges):
            return cls(value.low, value.high)
        try:
            bounds = array(value, "ranges")
        except InputTypeError as error:
            raise InputTypeError(f"{error} [2, d], or pass Ranges") from error
        if bounds.ndim != 2 or len(bounds) != 2:
            raise InputError(f"ranges have the shape {bounds.shape}; pass [2, d]")
        return cls(bounds[0], bounds[1])

    @classmethod
    def load(cls, file: str | PathLike[str]) -> Self:
        """The ranges in a file that `save` wrote. Raises InputError for any other file."""
        try:
            tensors = load_file(path(file, "a file of ranges"))
            return cls(tensors["low"].astype(np.float32), tensors["high"].astype(np.float32))
        except (SafetensorError, KeyError, OSError) as error:
            raise InputError(f"{file} holds no ranges ({error}); save them with Ranges") from error

    def save(self, file: str | PathLike[str]) -> None:
        """Write a safetensors file with the tensors low and high. Raises WriteError."""
        checked = path(file, "a file of ranges")
        try:
            save_file({"low": self.low, "high": self.high}, checked)
        except (OSError, SafetensorError) as error:
            raise WriteError(f"{checked} could not be written ({error}); name another") from error


def quantize_embeddings(
    embeddings: np.ndarray,
    precision: Precision,
    ranges: "Ranges | np.ndarray | None" = None,
    calibration_embeddings: np.ndarray | None = None,
) -> np.ndarray:
    """x -> floor(255 (x - low) / (high - low)), cut to 0 ... 255, or one bit per feature, x > 0.

    float [n, d] or [d] -> uint8 as above, int8 the same less 128; ubinary packs 8 features into a
    byte, the first one highest, binary is that less 128: [n, ceil(d / 8)]. Without ranges they are
    those of calibration_embeddings, else of the vectors themselves, of which there must be 100.
    Raises InputError. Source: sentence-transformers 6.2, util/quantization.py.
    Differs: there 2 vectors are enough for ranges, with a warning.
    """
    check_precision(precision)
    vectors = array(embeddings, "embeddings")
    if vectors.dtype.kind != "f":
        raise InputTypeError(f"vectors to quantise are floats, not {vectors.dtype}")
    if vectors.ndim not in (1, 2):
        raise InputError(f"vectors to quantise come as [n, d] or [d], not as {vectors.shape}")
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
    if not np.isfinite(vectors).all():
        raise InputError("vectors to quantise hold NaN or infinity; leave those out first")
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    if ranges is None and calibration_embeddings is not None:
        ranges = Ranges.of(calibration_embeddings)
    if ranges is None:
        check_enough(1 if vectors.ndim == 1 else len(vectors), precision)
        ranges = Ranges.of(vectors) if len(vectors) else Ranges.of(np.zeros((1, vectors.shape[1])))
    return scaled(vectors, Ranges.given(ranges), precision)


def check_precision(precision: object) -> None:
    """Raise InputError for an unknown precision."""
    choice(precision, "precision", DTYPES)


def check_enough(number: int, precision: str) -> None:
    """Raise InputError if there are too few vectors to take ranges from; none at all are fine."""
    if 0 < number < FEWEST:
        raise InputError(
            f"{precision} needs the range of each feature, and {number} vectors are too few to "
            f"take it from (at least {FEWEST}); pass ranges=Ranges.of(vectors of many texts)"
        )


def scaled(vectors: np.ndarray, ranges: Ranges, precision: str) -> np.ndarray:
    """float32 vectors [..., d] as bytes; a feature whose low equals its high has steps of 1."""
    if ranges.low.shape[0] != vectors.shape[-1]:
        raise InputError(
            f"ranges are for {ranges.low.shape[0]} features, but vectors have "
            f"{vectors.shape[-1]}; take them from vectors of the same model and truncate_dim"
        )
    steps = (ranges.high - ranges.low) / np.float32(STEPS)
    steps = np.where(steps == 0, np.float32(1), steps)
    level = np.clip(np.floor((vectors - ranges.low) / steps), 0, STEPS)
    return level.astype(np.uint8) if precision == "uint8" else (level - 128).astype(np.int8)
