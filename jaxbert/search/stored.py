"""Corpora in fewer bits: what their bytes mean, as quantize_embeddings wrote them."""

from typing import Any

import numpy as np

from jaxbert.arguments import integer
from jaxbert.errors import InputError, InputTypeError
from jaxbert.inference.quantise import STEPS, Ranges, quantize_embeddings
from jaxbert.search.checks import check_widths, floats_of, in_float32, rows_of


class Floats:
    """Vectors in any float dtype, or whole numbers that are compared as the numbers they are."""

    comparison: str | None = None  # the similarity that was asked for

    def __init__(self, vectors: Any) -> None:
        """vectors are [n, d]; a np.memmap is read a piece at a time."""
        self.rows = rows_of(vectors, "corpus")

    def __len__(self) -> int:
        """The number of vectors in it."""
        return len(self.rows)

    @property
    def width(self) -> int:
        """The features of a vector on the device."""
        return int(self.rows.shape[1])

    def queries(self, queries: np.ndarray) -> np.ndarray:
        """The queries as they are compared."""
        check_widths(queries.shape[1], self.width)
        return floats_of(queries, "queries")

    def filled(self, queries: np.ndarray) -> int:
        """The features that are equal in all vectors and no part of them: none."""
        return 0

    def piece(self, first: int, stop: int) -> np.ndarray:
        """Some rows as they are compared; whether they are finite is seen by their scores."""
        return self.read(self.rows[first:stop])

    def at(self, rows: np.ndarray) -> np.ndarray:
        """Those rows as they are compared."""
        return self.read(self.rows[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """What the rows of the array mean, in float32."""
        return in_float32(rows)


class Bytes(Floats):
    """int8 or uint8 vectors, read back as the middle of the step that each byte stands for."""

    def __init__(self, vectors: Any, ranges: Ranges | np.ndarray) -> None:
        """vectors are [n, d] bytes, ranges those that they were made by."""
        super().__init__(vectors)
        if self.rows.dtype not in (np.int8, np.uint8):
            raise InputTypeError(f"bytes are int8 or uint8, not {self.rows.dtype}")
        self.ranges = Ranges.given(ranges)
        check_widths(len(self.ranges.low), self.width)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """What the bytes mean, as floats."""
        level = rows.astype(np.float32) + (128.5 if rows.dtype == np.int8 else 0.5)
        step = (self.ranges.high - self.ranges.low) / np.float32(STEPS)
        return self.ranges.low + level * step


class Bits(Floats):
    """Vectors of one bit per feature, eight in a byte: ubinary (uint8) or binary (int8).

    Two are compared by their differing bits; a query in floats by the signs of its features.
    """

    comparison = "bits"

    def __init__(self, vectors: Any, features: int | None = None) -> None:
        """vectors are [n, ceil(d / 8)] bytes.

        features is d, which bytes alone do not tell; None: the width of queries in floats, and
        8 * bytes for queries in bits.
        """
        super().__init__(vectors)
        if self.rows.dtype not in (np.int8, np.uint8):
            raise InputTypeError(f"packed bits are uint8 or int8, not {self.rows.dtype}")
        most = 8 * self.width
        self.features = features if features is None else integer(features, "features", 1, most)
        if self.features is not None:
            check_widths(packed(self.features), self.width)

    def filled(self, queries: np.ndarray) -> int:
        """The bits behind the d features, which are 0 in all vectors."""
        known = queries.shape[1] if in_floats(queries) else 8 * self.width
        return 8 * self.width - (known if self.features is None else self.features)

    def queries(self, queries: np.ndarray) -> np.ndarray:
        """The bits of the queries."""
        if in_floats(queries):
            if self.features is not None:
                check_widths(queries.shape[1], self.features)
            queries = quantize_embeddings(floats_of(queries, "queries"), "ubinary")
        elif queries.dtype not in (np.int8, np.uint8):
            raise InputError(f"queries are {queries.dtype}; pass floats, or bits packed in bytes")
        check_widths(queries.shape[1], self.width)
        return unsigned(queries)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The bits that are packed in them, as uint8."""
        return unsigned(rows)


def in_floats(vectors: np.ndarray) -> bool:
    """Whether vectors are numbers with fractions, and no bytes."""
    return vectors.dtype.kind == "f" or vectors.dtype.name == "bfloat16"


def packed(features: int) -> int:
    """The bytes of so many bits."""
    return -(-features // 8)


def unsigned(rows: np.ndarray) -> np.ndarray:
    """Packed bits as uint8, whose int8 form is less by 128."""
    if rows.dtype == np.uint8:
        return rows
    return (rows.astype(np.int16) + 128).astype(np.uint8)
