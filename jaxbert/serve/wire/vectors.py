"""Rows of float32 as the vendors write them: numbers, base64, bytes of one or eight features."""

import base64
from typing import Any

import numpy as np

# What a client may call an encoding -> the precision of `Embedder.finish`.
PRECISIONS = {
    "float": "float32",
    "base64": "float32",
    "int8": "int8",
    "uint8": "uint8",
    "binary": "binary",
    "ubinary": "ubinary",
}


def encoded(rows: np.ndarray, encoding: str) -> list[Any]:
    """The rows [n, d] as JSON has them: n arrays, or n texts of base64.

    base64 is of little-endian float32, as openai's clients decode it.
    """
    if encoding == "base64":
        little = np.ascontiguousarray(rows, "<f4")
        return [base64.b64encode(row).decode("ascii") for row in little]
    return list(np.ascontiguousarray(rows))
