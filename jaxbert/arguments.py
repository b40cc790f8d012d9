"""What callers pass, checked: texts, numbers, arrays, paths, names, yes and no."""

import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.errors import InputError, InputTypeError, TextError, shown

# Iterables whose order or elements are not a list of texts.
UNORDERED = (bytes, bytearray, Mapping, set, frozenset)
# What tables have: iterating them gives the names of their columns, or the columns.
OF_TABLES = ("columns", "column_names")


def as_list(inputs: Iterable[str]) -> list[str]:
    """The texts as a list of plain str; what cannot be a list of texts is refused."""
    if is_table(inputs):
        raise InputTypeError(
            f"inputs is a {type(inputs).__name__}, whose elements are names and no texts; pass one "
            'column of it, such as inputs["text"]'
        )
    if isinstance(inputs, UNORDERED) or not isinstance(inputs, Iterable):
        raise InputTypeError(f"inputs is a {type(inputs).__name__}; pass a str or a list of str")
    try:
        texts = list(inputs)
    except TypeError as error:  # an array without axes calls itself iterable
        raise InputTypeError("inputs is an array without axes; pass a str or a list") from error
    return [plain_text(i, text) for i, text in enumerate(texts)]


def is_table(inputs: object) -> bool:
    """Whether it is iterated as names: a table of any library, or what has keys.

    A column has a dtype, and may have keys of its rows. The class is asked, for a property may
    compute.
    """
    own = getattr(inputs, "__dict__", {})

    def has(name: str) -> bool:
        return name in own or hasattr(type(inputs), name)

    return any(map(has, OF_TABLES)) or (has("keys") and has("__getitem__") and not has("dtype"))


def plain_text(i: int, text: Any) -> str:
    """The text as a plain str; what is no str, or no valid Unicode, is refused; i says which it is.

    A subclass of str may join, slice and print otherwise.
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
    """The value as an int in [low, high], from any type that is a whole number."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"{name} is a {type(value).__name__}; pass an integer") from error
    if not low <= number <= high:
        raise InputError(f"{name} is {number}; it must be from {low} to {high}")
    return number


def array(value: Any, name: str) -> np.ndarray:
    """The value as a NumPy array of real numbers or booleans; InputTypeError for anything else."""
    try:
        found = np.asarray(value)
    except Exception as error:  # rows of different lengths, or whatever its own conversion raises
        raise InputTypeError(
            f"{name} is a {type(value).__name__}; pass an array of numbers"
        ) from error
    if found.dtype.kind not in "fiub" and found.dtype.name != "bfloat16":
        raise InputTypeError(f"{name} has dtype {shown(found.dtype)}; pass an array of numbers")
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError(f"{name} is a masked array, whose mask would be lost; fill it first")
    return found


def flag(value: Any, name: str) -> bool:
    """A yes or no; a text or an array is none."""
    if not isinstance(value, bool | np.bool_ | int) or value not in (0, 1):
        raise InputTypeError(f"{name} is {shown(value)}; pass True or False")
    return bool(value)


def choice(value: Any, name: str, choices: Iterable[str]) -> str:
    """One of some words; InputError with all of them for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise InputError(f"{name} is {shown(value)}; it must be one of: {', '.join(choices)}")
    return value


def names(value: Any, name: str) -> tuple[str, ...]:
    """Some names; a single str is refused, for its letters are not meant."""
    found = tuple(value) if isinstance(value, list | tuple | set | frozenset) else (None,)
    if not all(isinstance(one, str) for one in found):
        raise InputTypeError(f'{name} is {shown(value)}; pass names, such as ("key",)')
    return found


def path(value: Any, name: str) -> Path:
    """A path from a str or a path; what no file system can name is refused."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str):
        raise InputTypeError(f"{name} is a {type(value).__name__}; pass a str or a path")
    try:
        strange = not text or b"\0" in os.fsencode(text)
    except UnicodeEncodeError:
        strange = True
    if strange:
        raise InputError(f"{shown(text)} cannot be the name of {name}; choose another")
    return Path(text)
