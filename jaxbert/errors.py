"""What can go wrong, by name; every message is one sentence that says what to do."""

import os
import sys
import unicodedata
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

# Characters of a message, and of one value in it; names in a checkpoint may have millions.
LONGEST_MESSAGE, LONGEST_VALUE = 2000, 160
# Unicode's categories of what a terminal obeys or cannot print: controls, formats, lone surrogates.
UNPRINTABLE = ("Cc", "Cf", "Cs")


def printable(text: str, most: int = LONGEST_MESSAGE) -> str:
    """The text on one line, unprintable characters escaped, its middle left out beyond `most`."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} ... {text[len(text) - most // 3 :]}"
    line = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in UNPRINTABLE else character
        for character in line
    )


def shown(value: Any) -> str:
    """A value from a file or a caller as it stands in a message: repr, short and printable."""
    try:
        return printable(repr(value), LONGEST_VALUE)
    except Exception:  # a repr of the user's own, or a number of thousands of digits
        return f"a {type(value).__name__}"


class JaxbertError(Exception):
    """Base of all errors raised on purpose by this package; its message is printable."""

    def __init__(self, message: str = "") -> None:
        """Names from a checkpoint stand in messages, so escape sequences are made harmless."""
        super().__init__(printable(message))


class ConfigError(JaxbertError, ValueError):
    """A configuration that does not describe an encoder we know."""


class CheckpointError(JaxbertError, ValueError):
    """A folder whose files are missing, damaged, contradictory or not understood."""


class InputError(JaxbertError, ValueError):
    """An argument whose value, shape or length cannot be used."""


class InputTypeError(JaxbertError, TypeError):
    """An argument of the wrong type."""


class InputChangedError(JaxbertError, ValueError):
    """An input that is not what it was when a run began; nothing is mixed."""


class TextError(InputError):
    """A text that the model cannot take; `text` is its index among those that were given."""

    def __init__(self, text: int, reason: str) -> None:
        """reason goes on from the name of the text: 'has 700 tokens, but ...'."""
        super().__init__(f"text {text} {reason}")
        self.text, self.reason = text, reason

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        """A pickle of it, which another process raises, is made of its arguments."""
        return type(self), (self.text, self.reason)


class ComputationError(JaxbertError, ArithmeticError):
    """A vector that cannot be right; it is not returned. `text` is the first such text."""

    def __init__(self, name: str, text: int, fault: str = "is not finite") -> None:
        """name says which text it is, to a reader; fault says what is wrong with its vector."""
        super().__init__(f"the vector of {name} {fault}; check the weights with `jaxbert verify`")
        self.name, self.text, self.fault = name, text, fault

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        """A pickle of it, which another process raises, is made of its arguments."""
        return type(self), (self.name, self.text, self.fault)


class DeviceUnavailableError(JaxbertError, RuntimeError):
    """JAX cannot start on the platform that the environment asks for."""


class ForkedProcessError(JaxbertError, RuntimeError):
    """A process forked after JAX had begun to run: JAX's threads are missing, it would hang."""


class DeviceMemoryError(JaxbertError, MemoryError):
    """Texts that need more memory than the device has, by an estimate made before compiling."""


class WriteError(JaxbertError, OSError):
    """A file that could not be written: no room, no permission, a broken disk."""


class ModelNotFoundError(JaxbertError, FileNotFoundError):
    """A model name that is no folder here and could not be fetched."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, however deep in it the reason was found."""
    package, level = f"{Path(__file__).parent}{os.sep}", 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_filename.startswith(package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
