"""Which of many rows cannot be used, and why: one of them must not stop the others."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxbert.errors import (
    ComputationError,
    DeviceMemoryError,
    InputError,
    InputTypeError,
    JaxbertError,
)


class RowRefusedError(JaxbertError, ValueError):
    """A row that cannot be written; the message goes on from its name."""


def reason_of(error: JaxbertError) -> str:
    """What is wrong with a row, to follow its place."""
    if isinstance(error, ComputationError):
        return f"gives a vector that {getattr(error, 'fault', 'is not finite')}"
    if isinstance(error, RowRefusedError):
        return str(error)
    return getattr(error, "reason", None) or f"cannot be embedded ({error})"


# What one text can be the reason of; other errors concern them all, and end the run.
OF_ONE = (InputError, InputTypeError, ComputationError, DeviceMemoryError)


def sifted(function: Callable[[Sequence[Any]], Iterable[Any]], items: Sequence[Any]) -> list[Any]:
    """function(items), one result each; where it refuses some, their errors in their places.

    Which they are is found by halves, so that few of many cost few calls.
    """
    try:
        return list(function(items)) if items else []
    except OF_ONE as error:
        if len(items) == 1:
            return [error]
    middle = len(items) // 2
    return sifted(function, items[:middle]) + sifted(function, items[middle:])
