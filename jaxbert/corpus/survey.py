"""A look at the folder of a run that changes nothing in it."""

from typing import Any

from jaxbert.corpus.locks import is_held
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
    """The workers that hold their locks, as "worker 0 of 2"."""
    locks = sorted(parts.folder.path.glob("worker-*.lock"))
    return [file.stem.replace("-", " ") for file in locks if is_held(file)]
