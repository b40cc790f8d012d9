"""Locks that end with their process, and that nobody waits for without end."""

import importlib
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxbert.errors import InputError

log = logging.getLogger(__name__)

# Seconds: how long to wait while one process holds a lock that is held only for moments, after how
# long to say so, and how often to try.
PATIENCE, SPEAK, OFTEN = 5.0, 2.0, 0.02


def kernel_locks() -> Any:
    """The module fcntl; InputError on a system that lacks it."""
    try:
        return importlib.import_module("fcntl")
    except ImportError as error:
        raise InputError(
            "jaxbert needs a POSIX system (locks that end with their process) to write a "
            "file; run it on Linux, macOS or WSL"
        ) from error


def acquire(file: Path, patience: float = 0.0) -> int | None:
    """Lock a file; its descriptor, which holds the lock until it is closed, or None.

    None if one process holds the lock for `patience` seconds; as long as it changes hands within
    that time, this waits. The file's modification time shows that it did: a process that may only
    read the file can hold the lock, but cannot prolong the wait. The kernel ends a lock with its
    process, however that ends. Raises FileNotFoundError if the folder is gone, or goes meanwhile.
    """
    fcntl = kernel_locks()
    since, seen, said = time.monotonic(), 0, False
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                os.utime(descriptor)
                return descriptor
            changed = None
        except FileNotFoundError:  # removed just now; os.open raises if its folder is gone
            changed = None
        except BlockingIOError:
            changed = os.fstat(descriptor).st_mtime_ns
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if changed is None:
            continue
        now = time.monotonic()
        if changed != seen:
            since, seen = now, changed
        if now - since >= patience:
            return None
        if now - since >= SPEAK and not said:
            log.warning("waiting for %s, which %s holds", file, holder(file))
            said = True
        time.sleep(OFTEN)


def is_held(file: Path) -> bool:
    """Whether a process has the lock; asked without writing, so that a disk may be read-only."""
    fcntl = kernel_locks()
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(file: Path) -> str:
    """Who has the lock, as far as the kernel of this machine tells."""
    with suppress(OSError, ValueError, IndexError):
        state = os.stat(file)
        device, inode = (os.major(state.st_dev), os.minor(state.st_dev)), state.st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            major, minor, number = words[5].split(":")
            if words[1] == "FLOCK" and (int(major, 16), int(minor, 16), int(number)) == (
                *device,
                inode,
            ):
                return f"process {words[4]}"
    return "another process"
