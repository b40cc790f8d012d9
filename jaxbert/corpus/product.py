"""The files that a run leaves, and the record that vouches for them.

OUT.json holds the metadata of the run, and size and SHA-256 of OUT and of what lies beside it. It
is written last, and says that OUT is unfinished before anything of it changes: so there is no
moment at which it vouches for something else, and what jaxbert did not write is told from what it
did.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxbert.corpus.files import (
    SEAL,
    DamagedRecordError,
    is_regular,
    measured,
    read_record,
    sibling,
    write_record,
)
from jaxbert.errors import InputError
from jaxbert.process.disk import file_sha256, sync

# What a run leaves, each with what its name ends in.
ENDINGS = {"vectors": "", "ids": ".ids.jsonl", "rejects": ".rejects.jsonl"}


class Product:
    """OUT and the files beside it."""

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        """overwrite: whether files that jaxbert did not write may be replaced."""
        if not path.name:
            raise InputError(f"{path} is no name of a file; name the output")
        self.path, self.overwrite = path, overwrite
        self.record = sibling(path, ".json")

    def named(self) -> Iterator[tuple[str, Path]]:
        """Each kind of file and where it belongs."""
        for kind, ending in ENDINGS.items():
            yield kind, sibling(self.path, ending)

    def about(self) -> dict[str, Any] | None:
        """The record of a finished output; None if there is none that can be trusted."""
        try:
            held = read_record(self.record)
        except (FileNotFoundError, DamagedRecordError):
            return None
        return held if isinstance(held.get("files"), dict) and not held.get("unfinished") else None

    def metadata(self) -> dict[str, Any] | None:
        """What the run said of its output; None if no record vouches for it."""
        about = self.about()
        return None if about is None else {k: v for k, v in about.items() if k != "files"}

    def fault(self, sums: bool = True) -> str | None:
        """What is wrong, as a clause; None if every byte is what the record says.

        Without sums only sizes are looked at. Rejected rows may have been read and removed.
        """
        about = self.about()
        if about is None:
            return f"{self.path} has no record {self.record.name} that vouches for it"
        for kind, file in self.named():
            told = about["files"].get(kind)
            if told is None:
                continue
            if not os.path.lexists(file):
                if kind == "rejects":
                    continue
                return f"{file} is missing"
            if not is_regular(file):
                return f"{file} is no plain file"
            size = file.stat().st_size
            if size != told["bytes"]:
                return (
                    f"{file} is damaged: it has {size} bytes, and its record says {told['bytes']}"
                )
            if sums and file_sha256(file) != told["sha256"]:
                return f"{file} is damaged: its SHA-256 is not what its record says"
        return None

    # --- replacing -----------------------------------------------------------------------------

    def check_ours(self) -> None:
        """Refuse to replace what jaxbert did not write; ask before any work."""
        ours = self.ours()
        for kind, file in [*self.named(), ("record", self.record)]:
            if not os.path.lexists(file):
                continue
            if not is_regular(file):
                raise InputError(f"{file} is no plain file; move it away or name another output")
            if not self.overwrite and kind not in ours and file.stat().st_size:
                raise InputError(
                    f"{file} is there, and no record says that jaxbert wrote it; move it away, "
                    "name another output, or replace it with --overwrite"
                )

    def ours(self) -> set[str]:
        """The kinds of files that jaxbert wrote, or was about to, by the record."""
        if not is_regular(self.record):
            return set()
        try:
            files = read_record(self.record).get("files")
            return {*files, "record"} if isinstance(files, dict) else set()
        except DamagedRecordError:
            own = json.dumps(SEAL).encode() in self.record.read_bytes()
            return {*ENDINGS, "record"} if own else set()

    def replace(self, staged: Path, metadata: Mapping[str, Any]) -> None:
        """Put `staged`, and what lies beside it, in the place of OUT and of what lies beside that.

        Killed at any moment, this leaves a record that says that OUT is unfinished, or none, or
        everything.
        """
        self.check_ours()
        there = [kind for kind, ending in ENDINGS.items() if sibling(staged, ending).exists()]
        files = {kind: measured(sibling(staged, ENDINGS[kind])) for kind in there}
        kinds = self.ours() & {*ENDINGS} | {*there}
        partial = sibling(staged, ".json.partial")
        write_record(
            self.record, {"unfinished": True, "files": dict.fromkeys(sorted(kinds))}, partial
        )
        for kind, file in self.named():
            if kind in there:
                os.replace(sibling(staged, ENDINGS[kind]), file)
            elif os.path.lexists(file):
                file.unlink()
        sync(self.path.parent)
        write_record(self.record, {**metadata, "files": files}, partial)
