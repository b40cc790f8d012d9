"""What callers of `encode` pass, checked: texts and whole numbers."""

import operator
from collections.abc import Iterable
from typing import Any

from jaxbert.errors import InputError, InputTypeError

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
