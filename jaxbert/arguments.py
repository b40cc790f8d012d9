"""What callers pass, checked: texts, numbers, arrays, paths, names, yes and no."""

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.errors import InputError, InputTypeError, shown

# Iterables whose order or elements are not a list of texts.
UNORDERED = (bytes, bytearray, dict, set, frozenset)


def as_list(inputs: Iterable[str]) -> list[str]:
    """The texts as a list; what cannot be a list of texts is refused."""
    if isinstance(inputs, UNORDERED) or not isinstance(inputs, Iterable):
        raise InputTypeError(f"inputs is a {type(inputs).__name__}; pass a str or a list of str")
    try:
        texts = list(inputs)
    except TypeError as error:  # an array without axes calls itself iterable
        raise InputTypeError("inputs is an array without axes; pass a str or a list") from error
    for i, text in enumerate(texts):
        check_text(i, text)
    return texts


def check_text(i: int, text: Any) -> None:
    """Refuse what is no str, or no valid Unicode; i says which it is."""
    if not isinstance(text, str):
        raise InputTypeError(f"text {i} is a {type(text).__name__}; pass str")
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"text {i} has a lone surrogate at character {error.start}, so it is no valid "
            'Unicode; clean it with text.encode("utf-8", "replace").decode()'
        ) from error


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
