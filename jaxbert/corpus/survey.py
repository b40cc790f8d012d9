"""A look at the folder of a run that changes nothing in it."""

import os
from typing import Any

from jaxbert.corpus.files import take
from jaxbert.corpus.parts import RECORD, Parts


def records(parts: Parts) -> dict[int, dict[str, Any]]:
    """The finished parts of all workers, by their numbers."""
    found = {}
    for file in sorted(parts.folder.path.glob("part-*.json")):
        match = RECORD.fullmatch(file.name)
        record = parts.read(int(match[1])) if match else None
        if match and record is not None:
            found[int(match[1])] = record
    return found


def at_work(parts: Parts) -> list[str]:
    """The workers that hold their locks, as "worker 0 of 2".

    Behind the lock on coming and going, so that nobody who is just coming finds a lock taken.
    """
    busy = []
    gate = take(parts.folder.path / "open.lock", wait=True)
    try:
        for file in sorted(parts.folder.path.glob("worker-*.lock")):
            lock = take(file)
            if lock is None:
                busy.append(file.stem.replace("-", " "))
            else:
                os.close(lock)
    finally:
        if gate is not None:
            os.close(gate)
    return busy
