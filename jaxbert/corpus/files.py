"""Files that appear whole or not at all, and locks that die with their process."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxbert.errors import JaxbertError
from jaxbert.errors import WriteError as WriteError


def beside(file: Path, ending: str) -> Path:
    """NAME -> NAME + ending, in the same folder."""
    return file.with_name(file.name + ending)


def sync(path: Path) -> None:
    """What the operating system holds of a file, or of a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(file: Path) -> str:
    """sha256 of a file's bytes, as hexadecimal digits; reads it in small pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def explained(file: Path) -> Iterator[None]:
    """An OSError while this file is written becomes a WriteError of one sentence."""
    try:
        yield
    except JaxbertError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        if error.filename is not None and str(error.filename) not in (
            str(file),
            str(beside(file, ".partial")),
        ):
            reason += f": {error.filename}"
        wrapped = WriteError(
            f"{file} could not be written ({reason}); nothing is lost, so mend that and run the "
            "same command again"
        )
        wrapped.errno = error.errno
        raise wrapped from error


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """A name to write to; behind the block it is on the disk under its own name, or gone.

    The name is file + ".partial". Raises WriteError where the disk refuses; a file that was there
    before is then still there.
    """
    partial = beside(file, ".partial")
    with explained(file):
        try:
            yield partial
            sync(partial)
            os.replace(partial, file)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                partial.unlink(missing_ok=True)
            raise
        sync(file.parent)


def write_json(file: Path, contents: Any) -> None:
    """Contents as a JSON file whose bytes depend on nothing else: keys are sorted."""
    text = json.dumps(contents, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with whole(file) as partial:
        partial.write_bytes(text.encode() + b"\n")


def take(file: Path, wait: bool = False) -> int | None:
    """The descriptor of a lock file that is ours until it is closed; None if another has it.

    The kernel ends the lock with the process, however that ends. Raises FileNotFoundError if the
    folder is gone, which is also noticed where it went while this waited.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:  # removed after it was opened: open raises if the folder is gone
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
