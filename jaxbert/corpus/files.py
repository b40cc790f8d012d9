"""Files that appear whole or not at all, and records that carry their own sum."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxbert.errors import JaxbertError
from jaxbert.errors import WriteError as WriteError
from jaxbert.process.disk import file_sha256, sync

SEAL = "record_sha256"


class DamagedRecordError(JaxbertError, ValueError):
    """A record whose bytes are not those that were written."""


def sibling(file: Path, ending: str) -> Path:
    """NAME -> NAME + ending, in the same folder."""
    return file.with_name(file.name + ending)


def is_regular(file: Path) -> bool:
    """Whether a plain file has this name: no link, no folder, no pipe, which could block."""
    try:
        return stat.S_ISREG(os.lstat(file).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def bytes_sha256(contents: bytes) -> str:
    """The SHA-256 of these bytes, in hexadecimal."""
    return hashlib.sha256(contents).hexdigest()


def measured(file: Path) -> dict[str, Any]:
    """The size and SHA-256 of a file."""
    return {"bytes": file.stat().st_size, "sha256": file_sha256(file)}


# --- writing -----------------------------------------------------------------------------------


@contextmanager
def write_errors(file: Path) -> Iterator[None]:
    """An OSError while this file is written becomes a WriteError of one sentence."""
    try:
        yield
    except JaxbertError:
        raise
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        if error.filename is not None and str(error.filename) not in (
            str(file),
            str(sibling(file, ".partial")),
        ):
            reason += f": {error.filename}"
        wrapped = WriteError(
            f"{file} could not be written ({reason}); nothing is lost, so mend that and run the "
            "same command again"
        )
        wrapped.errno = error.errno
        raise wrapped from error


@contextmanager
def created(file: Path) -> Iterator[int]:
    """An empty file of this name, made here and now: no link is followed, no other file written.

    Its descriptor stays open within the block, so that its number is given to no other file.
    """
    with suppress(FileNotFoundError):
        file.unlink()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(file: Path, staged: Path | None = None) -> Iterator[Path]:
    """A name to write to; behind the block it is on the disk under its own name, or gone.

    The name is `staged`, or file + ".partial", in a folder of ours on the same disk: what has that
    name is removed. Raises WriteError where the disk refuses; a file that was there before is then
    still there.
    """
    partial = staged or sibling(file, ".partial")
    with write_errors(file), created(partial) as made:
        try:
            yield partial
            if not os.path.samestat(os.fstat(made), os.lstat(partial)):
                raise OSError(f"another program has put something else at {partial}")
            os.fsync(made)
            os.replace(partial, file)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                partial.unlink(missing_ok=True)
            raise
        sync(file.parent)


# --- records -----------------------------------------------------------------------------------


def as_bytes(contents: Mapping[str, Any]) -> bytes:
    """Contents as JSON whose bytes depend on nothing else: keys are sorted."""
    options: dict[str, Any] = {"indent": 2, "sort_keys": True, "allow_nan": False}
    try:
        return json.dumps(contents, **options, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a file's name may be no UTF-8
        return json.dumps(contents, **options).encode() + b"\n"


def sealed(contents: Mapping[str, Any]) -> bytes:
    """The bytes of a record, the sum of its contents among them."""
    return as_bytes({**contents, SEAL: bytes_sha256(as_bytes(contents))})


def write_record(file: Path, contents: Mapping[str, Any], staged: Path | None = None) -> None:
    """Contents as a JSON file with its own sum."""
    with atomic_write(file, staged) as partial:
        partial.write_bytes(sealed(contents))


def read_record(file: Path) -> dict[str, Any]:
    """The contents of a record; FileNotFoundError if there is no such file.

    Raises DamagedRecordError if a single bit is not what `write_record` wrote.
    """
    if not is_regular(file) and os.path.lexists(file):
        raise DamagedRecordError(f"{file} is no plain file")
    held = file.read_bytes()
    try:
        contents = json.loads(held)
        del contents[SEAL]
        same = sealed(contents) == held
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedRecordError(f"{file} is damaged, or jaxbert did not write it") from error
    if not same:
        raise DamagedRecordError(f"{file} is damaged, for its sum is another")
    return dict(contents)
