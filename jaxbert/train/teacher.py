"""The vectors that a student has to learn, computed once and kept in the folder of its run."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.corpus.files import (
    DamagedRecordError,
    atomic_write,
    measured,
    read_record,
    write_record,
)
from jaxbert.embedder import Embedder
from jaxbert.process import interrupts

VECTORS, RECORD = "teacher.npy", "teacher.json"
# Texts between two looks at whether the user wants to stop.
TOGETHER = 1024


def teacher_vectors(
    make: Callable[[], Embedder],
    texts: Sequence[str],
    length: int,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    tell: Callable[[int], object] = lambda more: None,
) -> np.ndarray:
    """The vectors [n, d] of a teacher for texts cut to `length` tokens, as the student sees them.

    make gives the teacher, and is not called where the folder has the vectors of the same texts by
    a teacher of the same identity. tell is given the number of texts that have just been done.
    """
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    about = {"teacher": dict(identity or {}), "length": length, "texts": digest.hexdigest()}
    if folder is not None and is_kept(folder, about):
        return np.load(folder / VECTORS)
    teacher = make()
    most = min(length, teacher.max_seq_length)
    found = []
    for start in range(0, len(texts), TOGETHER):
        interrupts.check()
        found.append(teacher.encode(texts[start : start + TOGETHER], max_length=most))
        tell(len(found[-1]))
    vectors = np.concatenate(found)
    if folder is not None:
        with atomic_write(folder / VECTORS) as partial, partial.open("wb") as stream:
            np.save(stream, vectors)
        write_record(folder / RECORD, about | measured(folder / VECTORS))
    return vectors


def is_kept(folder: Path, about: Mapping[str, Any]) -> bool:
    """Whether the folder has these vectors, undamaged."""
    try:
        record = read_record(folder / RECORD)
        return record == {**about, **measured(folder / VECTORS)}
    except (FileNotFoundError, DamagedRecordError):
        return False
