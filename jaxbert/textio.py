"""Vectors as lines of JSON on a stream."""

import json
from collections.abc import Sequence
from typing import TextIO

import numpy as np


def write_rows(stream: TextIO, texts: Sequence[str], vectors: np.ndarray) -> None:
    """{"text": ..., "embedding": [...]} per line."""
    for text, vector in zip(texts, vectors, strict=True):
        # Nine digits name a float32 exactly; tolist() alone would print its float64 tail.
        numbers = vector.tolist()
        if vector.dtype.kind == "f":
            numbers = [float(f"{number:.9g}") for number in numbers]
        stream.write(json.dumps({"text": text, "embedding": numbers}, ensure_ascii=False) + "\n")
