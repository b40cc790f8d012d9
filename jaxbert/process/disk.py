"""Files as the disk has them: their sum, and a wait until they are written."""

import hashlib
import os
from pathlib import Path


def file_sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes in hexadecimal digits, read in small pieces; else OSError."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk; else OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
