"""Standard streams, which may be closed, broken, or of an encoding that lacks most characters."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from jaxbert.errors import JaxbertError


class StreamError(JaxbertError, OSError):
    """stdin or stdout, where a command needs it and it is closed."""


def is_usable(stream: Any, mode: int) -> bool:
    """Whether a stream is open, for reading or for writing; one without a descriptor is."""
    if stream is None or stream.closed:
        return False
    try:
        import fcntl
    except ImportError:  # not a POSIX system, where an open stream is all that is known
        return True
    try:
        flags = fcntl.fcntl(stream.fileno(), fcntl.F_GETFL)
    except io.UnsupportedOperation:
        return True
    except OSError:
        return False
    return flags & os.O_ACCMODE in (mode, os.O_RDWR)


def occupy() -> None:
    """Give closed streams a descriptor, or the next file to be opened would be one of them.

    stderr goes nowhere then; stdin and stdout can be neither read nor written, as before.
    """
    for number, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest number that is free: this one
    if sys.stderr is None:
        nowhere = io.FileIO(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(nowhere), errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def need_stdin() -> None:
    """Refuse to begin if stdin cannot be read."""
    if not is_usable(sys.stdin, os.O_RDONLY):
        raise StreamError("stdin is closed; name the files to read, or add < FILE")


def stdin() -> BinaryIO:
    """The bytes of stdin, read apart from sys.stdin.

    Python closes that at its end, and would die of a thread that still waits for input there.
    """
    binary: BinaryIO = sys.stdin.buffer
    try:
        return io.BufferedReader(io.FileIO(binary.fileno(), closefd=False))
    except (io.UnsupportedOperation, AttributeError):
        return binary


def need_stdout() -> None:
    """Refuse to begin if the answer would be lost."""
    if not is_usable(sys.stdout, os.O_WRONLY):
        raise StreamError("stdout is closed, so the answer would be lost; add > FILE, or | PROGRAM")


def use_utf8() -> None:
    """JSON on stdout is UTF-8, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: str) -> None:
    """A line on stderr; if nobody can read it, the work goes on."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def answer(text: str) -> None:
    """A line on stdout."""
    with written():
        sys.stdout.write(f"{text}\n")


@contextmanager
def written() -> Iterator[None]:
    """Within the block stdout is written, and behind it it has been.

    Raises StreamError if the disk refuses, BrokenPipeError if nobody reads.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop()
        raise StreamError(
            f"stdout could not be written ({os.strerror(error.errno or 0)})"
        ) from error


def drop() -> None:
    """Let go of a stdout that cannot be written, or Python would try once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        number, nowhere = sys.stdout.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
