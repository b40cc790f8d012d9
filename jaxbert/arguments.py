"""Checks of what callers pass: texts, numbers, arrays, paths, names, flags."""

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.errors import InputError, InputTypeError, TextError, shown

# Iterables without an order, or whose elements are not texts.
UNORDERED = (bytes, bytearray, Mapping, set, frozenset)
# Attributes of tables, which are iterated by column names or by columns.
OF_TABLES = ("columns", "column_names")


def as_list(inputs: Iterable[str], name: str = "inputs") -> list[str]:
    """The texts, an argument of that name, as a list of plain str.

    Raises InputTypeError and TextError.
    """
    if is_table(inputs):
        raise InputTypeError(
            f"{name} is a {type(inputs).__name__}, whose elements are names and no texts; pass one "
            f'column of it, such as {name}["text"]'
        )
    if isinstance(inputs, UNORDERED) or not isinstance(inputs, Iterable):
        raise InputTypeError(f"{name} is a {type(inputs).__name__}; pass a str or a list of str")
    try:
        texts = list(inputs)
    except TypeError as error:  # an array without axes claims to be iterable
        raise InputTypeError(f"{name} is an array without axes; pass a str or a list") from error
    return [plain_text(i, text) for i, text in enumerate(texts)]


def texts_given(inputs: Any, sentences: Any) -> Any:
    """The texts of a call, under one of their two names. Raises InputTypeError for both."""
    if inputs is not None and sentences is not None:
        raise InputTypeError("inputs and sentences were both given; pass inputs alone")
    return sentences if inputs is None else inputs


def is_table(inputs: object) -> bool:
    """Whether iterating gives names instead of texts: for tables of any library, and mappings.

    A column has a dtype, and may have keys of its rows. Attributes are looked up in the class,
    since a property may compute.
    """
    attributes = getattr(inputs, "__dict__", {})

    def has(name: str) -> bool:
        return name in attributes or hasattr(type(inputs), name)

    return any(map(has, OF_TABLES)) or (has("keys") and has("__getitem__") and not has("dtype"))


def plain_text(i: int, text: Any) -> str:
    """Text i as a plain str, since a subclass may join, slice and print otherwise.

    Raises InputTypeError for anything but a str, TextError for invalid Unicode.
    """
    if not isinstance(text, str):
        raise InputTypeError(f"text {i} is a {type(text).__name__}; pass str")
    plain = str.__str__(text)
    if plain.isascii():
        return plain
    try:
        plain.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            i,
            f"has a lone surrogate at character {error.start}, so it is no valid "
            'Unicode; clean it with text.encode("utf-8", "replace").decode()',
        ) from error
    return plain


def integer(value: Any, name: str, low: int, high: int = 2**31 - 1) -> int:
    """The value as an int in [low, high]. Raises InputTypeError and InputError."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"{name} is a {type(value).__name__}; pass an integer") from error
    if not low <= number <= high:
        raise InputError(f"{name} is {number}; it must be from {low} to {high}")
    return number


def array(value: Any, name: str) -> np.ndarray:
    """The value as a NumPy array of real numbers or booleans. Raises InputTypeError."""
    try:
        converted = np.asarray(value)
    except Exception as error:  # rows of different lengths, or whatever the conversion raises
        raise InputTypeError(
            f"{name} is a {type(value).__name__}; pass an array of numbers"
        ) from error
    if converted.dtype.kind not in "fiub" and converted.dtype.name != "bfloat16":
        raise InputTypeError(f"{name} has dtype {shown(converted.dtype)}; pass an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(f"{name} is a masked array, whose mask would be lost; fill it first")
    return converted


def flag(value: Any, name: str) -> bool:
    """The value as a bool, from True, False, 0 or 1. Raises InputTypeError for anything else."""
    if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
        raise InputTypeError(f"{name} is {shown(value)}; pass True or False")
    return bool(value)


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """The value, which must be one of choices. Raises InputError, which lists them."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {shown(value)}; it must be one of: {', '.join(choices)}")
    return value


def names(value: Any, name: str) -> tuple[str, ...]:
    """Names as a tuple of str, from a list, tuple or set. Raises InputTypeError, also for a str."""
    items = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (None,)
    if not all(isinstance(item, str) for item in items):
        raise InputTypeError(f'{name} is {shown(value)}; pass names, such as ("key",)')
    return items


def path(value: Any, name: str) -> Path:
    """The value as a Path. Raises InputTypeError, or InputError for an impossible name."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InputTypeError(f"{name} is a {type(value).__name__}; pass a str or a path")
    try:
        invalid = not text or b"\0" in os.fsencode(text)
    except UnicodeEncodeError:
        invalid = True
    if invalid:
        raise InputError(f"{shown(text)} cannot be the name of {name}; choose another")
    return Path(text)
