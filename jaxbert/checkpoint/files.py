"""The one way in which a file of a model folder is opened: it must be a regular file.

A name in a folder can stand for anything: a link that leads nowhere, a pipe on which a reader waits
for ever, a device without an end, the pointer that a version control system leaves in the place of
a large file. All of them are refused, for what is not read counts as absent, and an absent file has
a meaning.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from jaxbert.errors import CheckpointError

# Bytes. A tokenizer.json of 250,000 words has 17 MB, other JSON files have a few kB.
LARGEST_TEXT, LARGEST_TOKENIZER = 1 << 26, 1 << 29
# What version control systems put in the place of a file that was not fetched.
POINTERS = {
    b"version https://git-lfs.github.com/spec/": "a Git LFS pointer; run `git lfs pull`",
    b"version https://hawser.github.com/spec/": "a Git LFS pointer; run `git lfs pull`",
    b"/annex/objects/": "a git-annex pointer; run `git annex get`",
}
LONGEST_POINTER = 1024


def is_there(file: Path) -> bool:
    """Whether a regular file is there, links followed; CheckpointError for anything else."""
    try:
        os.lstat(file)
    except FileNotFoundError:
        parent = file.parent
        if os.path.lexists(parent) and not parent.exists():
            raise CheckpointError(f"{parent} is a link that leads nowhere; restore it") from None
        return False
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    try:
        mode = os.stat(file).st_mode
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} is a link that leads nowhere; restore it") from error
    except (OSError, ValueError) as error:
        raise unreadable(file, error) from error
    check_regular(file, mode)
    return True


def unreadable(file: Path, error: Exception) -> CheckpointError:
    """What to say of a file that the system does not open; ValueError is about its name."""
    reason = error.strerror if isinstance(error, OSError) else "it has an impossible name"
    return CheckpointError(f"{str(file)!r} cannot be read ({reason}); restore it")


def check_regular(file: Path, mode: int) -> None:
    """Refuse a folder, a pipe, a socket and a device."""
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    kind = next((name for test, name in kinds.items() if test(mode)), "something else")
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{file} is {kind} where a file is expected; restore it")


@contextmanager
def opened_file(file: Path) -> Iterator[BinaryIO]:
    """A regular file, open for reading; CheckpointError for what is none, or is a pointer."""
    if not is_there(file):
        raise CheckpointError(f"{file} is missing; fetch the folder again")
    try:
        # Without blocking, should a pipe have taken the file's place just now.
        number = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(number, "rb") as stream:
            check_regular(file, os.fstat(number).st_mode)
            refuse_pointer(file, stream)
            yield stream
    except OSError as error:
        raise unreadable(file, error) from error


def refuse_pointer(file: Path, stream: BinaryIO) -> None:
    """Say what stands in the file's place, if something does; the stream is at its start again."""
    what = pointer(stream)
    if what is not None:
        raise CheckpointError(f"{file} is {what} where it was cloned")


def pointer(stream: BinaryIO) -> str | None:
    """What stands in the place of a file that was not fetched; None where it is the file."""
    if os.fstat(stream.fileno()).st_size > LONGEST_POINTER:
        return None
    start = stream.read(LONGEST_POINTER)
    stream.seek(0)
    return next((what for mark, what in POINTERS.items() if start.startswith(mark)), None)
