"""Standard streams, which may be closed, broken, or in an encoding that lacks most characters."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from jaxbert.errors import JaxbertError


class StreamError(JaxbertError, OSError):
    """A command needs stdin or stdout, but it is closed or broken."""


def is_usable(stream: Any, mode: int) -> bool:
    """Whether a stream is open for mode, os.O_RDONLY or os.O_WRONLY.

    One without a descriptor counts as open.
    """
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
    """Give closed streams a descriptor, which the next file to be opened would take otherwise.

    stderr is then discarded; stdin and stdout still cannot be read or written.
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
    """Raise StreamError if stdin cannot be read."""
    if not is_usable(sys.stdin, os.O_RDONLY):
        raise StreamError("stdin is closed; name the files to read, or add < FILE")


def stdin() -> BinaryIO:
    """A binary stream over stdin, separate from sys.stdin.

    Python closes sys.stdin at exit, and would crash if a thread still waited for input there.
    """
    binary: BinaryIO = sys.stdin.buffer
    try:
        return io.BufferedReader(io.FileIO(binary.fileno(), closefd=False))
    except (io.UnsupportedOperation, AttributeError):
        return binary


def need_stdout() -> None:
    """Raise StreamError if stdout cannot be written."""
    if not is_usable(sys.stdout, os.O_WRONLY):
        raise StreamError("stdout is closed, so the answer would be lost; add > FILE, or | PROGRAM")


def use_utf8() -> None:
    """Set stdout to UTF-8, which JSON needs, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")


def say(text: str) -> None:
    """Write a line to stderr; if that fails, the work goes on."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def answer(text: str) -> None:
    """Write a line to stdout. Raises as `written`."""
    with written():
        sys.stdout.write(f"{text}\n")


@contextmanager
def written() -> Iterator[None]:
    """A context for writing to stdout, which is flushed at its end.

    Raises StreamError if a write fails, BrokenPipeError if the reader has gone.
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
    """Replace a stdout that cannot be written, since Python would flush it again at exit."""
    with suppress(OSError, ValueError, AttributeError):
        number, nowhere = sys.stdout.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
