"""The exceptions of this package; every message is one sentence that says what to do."""

import os
import sys
import unicodedata
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

# The most characters of a message and of one value in it; names in a checkpoint may have millions.
LONGEST_MESSAGE, LONGEST_VALUE = 2000, 160
# Unicode categories that a terminal interprets or cannot print: controls, formats, surrogates.
UNPRINTABLE = ("Cc", "Cf", "Cs")


def printable(text: str, most: int = LONGEST_MESSAGE) -> str:
    """The text on one line, unprintable characters escaped; its middle is cut beyond `most`."""
    if len(text) > most:
        text = f"{text[: most * 2 // 3]} ... {text[len(text) - most // 3 :]}"
    line = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in UNPRINTABLE else character
        for character in line
    )


def shown(value: Any) -> str:
    """A value from a file or a caller for a message: its repr, short and printable."""
    try:
        return printable(repr(value), LONGEST_VALUE)
    except Exception:  # a user's repr, or a number of thousands of digits
        return f"a {type(value).__name__}"


class JaxbertError(Exception):
    """Base of all errors raised on purpose by this package; its message is printable."""

    def __init__(self, message: str = "") -> None:
        """Make the message printable: names from a checkpoint may hold escape sequences."""
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
    """An input that has changed since a run began; results of both are never mixed."""


class TextError(InputError):
    """A text that the model cannot take; `text` is its index among the inputs."""

    def __init__(self, text: int, reason: str) -> None:
        """reason continues the sentence after the text: 'has 700 tokens, but ...'."""
        super().__init__(f"text {text} {reason}")
        self.text, self.reason = text, reason

    def __reduce__(self) -> tuple[type, tuple[int, str]]:
        """Pickling keeps the arguments, so that another process can raise the error again."""
        return type(self), (self.text, self.reason)


class ComputationError(JaxbertError, ArithmeticError):
    """A vector that cannot be right; it is not returned. `text` is the first such text."""

    def __init__(self, name: str, text: int, fault: str = "is not finite") -> None:
        """name is the text's in the message; fault says what is wrong with its vector."""
        super().__init__(f"the vector of {name} {fault}; check the weights with `jaxbert verify`")
        self.name, self.text, self.fault = name, text, fault

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        """Pickling keeps the arguments, so that another process can raise the error again."""
        return type(self), (self.name, self.text, self.fault)


class EngineError(JaxbertError, RuntimeError):
    """An engine beside JAX that failed, or whose results are not those of the JAX encoder."""


class ProcessEndedError(JaxbertError, RuntimeError):
    """A process of this package's that has ended before it had answered."""


class DeviceUnavailableError(JaxbertError, RuntimeError):
    """JAX cannot start on the platform that the environment asks for."""


class ForkedProcessError(JaxbertError, RuntimeError):
    """A process forked after JAX had started: JAX's threads are missing, so it would hang."""


class DeviceMemoryError(JaxbertError, MemoryError):
    """Texts that need more memory than the device has, as estimated before compiling."""


class QueueFullError(JaxbertError, RuntimeError):
    """More work waits than a queue takes; nothing of the request was done."""

    def __init__(self, retry_after: float, waits: float, most: float) -> None:
        """retry_after is in seconds; work for `waits` of them waits, and the queue takes `most`."""
        super().__init__(
            f"work for {waits:.1f} s waits, and the queue takes no more beyond {most:g} s "
            f"(max_wait); try again after {retry_after:.1f} s"
        )
        self.retry_after, self.waits, self.most = retry_after, waits, most

    def __reduce__(self) -> tuple[type, tuple[float, float, float]]:
        """Pickling keeps the arguments, so that another process can raise the error again."""
        return type(self), (self.retry_after, self.waits, self.most)


class QueueTimeoutError(JaxbertError, TimeoutError):
    """A request that waited longer than its queue allows; its texts are dropped."""


class QueueClosedError(JaxbertError, RuntimeError):
    """A queue that takes nothing more: it was closed, or what computes for it has failed."""


class MissingPackageError(JaxbertError, ModuleNotFoundError):
    """A package that an optional feature needs and that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        """extra is jaxbert's extra that installs the package."""
        super().__init__(
            f"{package} is not installed; it comes with jaxbert's extra named {extra}: "
            f'pip install "jaxbert[{extra}]"'
        )
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickling keeps the arguments, so that another process can raise the error again."""
        return type(self), (self.package, self.extra)


class WriteError(JaxbertError, OSError):
    """A file that could not be written: no room, no permission, a broken disk."""


class ModelNotFoundError(JaxbertError, FileNotFoundError):
    """A model name that is no local folder and could not be fetched."""


class NotAFolderError(ModelNotFoundError, NotADirectoryError):
    """A model was named by one of its files, or by another file."""


def warn_caller(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this package, however deep in it the reason was found."""
    package, level = f"{Path(__file__).parent}{os.sep}", 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and (
        frame.f_code.co_filename.startswith(package) or frame.f_globals["__name__"] == "contextlib"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
