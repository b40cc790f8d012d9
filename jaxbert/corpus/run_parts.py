"""The parts of a run: which are done, how one is finished, and how all become the output.

OUT.parts/part-000012.npy is a part, and part-000012.json beside it its record, which is written
last: with a record the part is done; without one, or with a damaged one, it was never made. A
part's rejected rows are in part-000012.rejects.jsonl. Worker i of n makes the parts k with
k % n == i.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jaxbert.corpus.files import (
    DamagedRecordError,
    atomic_write,
    is_regular,
    measured,
    read_record,
    sibling,
    write_errors,
    write_record,
)
from jaxbert.corpus.folder import Folder
from jaxbert.corpus.locks import acquire
from jaxbert.corpus.product import Product
from jaxbert.errors import JaxbertError
from jaxbert.process.disk import file_sha256

log = logging.getLogger(__name__)

RECORD = re.compile(r"part-(\d{6,})\.json")
PARTIAL = re.compile(r"part-(\d{6,})\..*\.partial")


class DamagedPartError(JaxbertError, OSError):
    """Parts that are not what was written; they are removed and must be made again."""


class RunParts:
    """The parts of the run that makes one output, as one of its workers has them."""

    def __init__(
        self, output: str | Path, worker: int = 0, workers: int = 1, overwrite: bool = False
    ) -> None:
        """Nothing is touched before `open`; overwrite: also what jaxbert did not write."""
        self.output = Path(output)
        self.product = Product(self.output, overwrite)
        self.folder = Folder(self.product, worker, workers)

    def __enter__(self) -> Self:
        """The parts, which are still to be opened."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Leave the folder as it is: the same command goes on from there."""
        self.close()

    # --- where things are ----------------------------------------------------------------------

    def mine(self, k: int) -> bool:
        """Whether this worker makes part k."""
        return k % self.folder.workers == self.folder.worker

    def data(self, k: int) -> Path:
        """The file of part k."""
        return self.folder.path / f"part-{k:06}{self.output.suffix}"

    def record(self, k: int) -> Path:
        """What says that part k is done."""
        return self.folder.path / f"part-{k:06}.json"

    def rejects(self, k: int) -> Path:
        """The rows of part k that could not be used; there only if there are any."""
        return self.folder.path / f"part-{k:06}.rejects.jsonl"

    # --- coming and going ----------------------------------------------------------------------

    def open(self, settings: Mapping[str, Any]) -> None:
        """Make the folder or go on in it, without what a crash of this worker has damaged.

        Raises RunBusyError if another process is this worker, or one of another number of workers;
        SettingsChangedError if the run was begun with other settings, with each difference named.
        """
        self.folder.open(settings)
        self.recover()

    def close(self) -> None:
        """Leave; the last worker of an assembled run, or of one without any part, tidies up."""
        self.folder.close()

    # --- parts ---------------------------------------------------------------------------------

    def records(self) -> dict[int, dict[str, Any]]:
        """The finished parts of all workers and their records: {rows, rejected, bytes, ...}."""
        records = ((k, self.read(k)) for k in self.recorded())
        return {k: record for k, record in records if record is not None}

    def recorded(self) -> list[int]:
        """The parts that have a record, damaged or not, in order."""
        names = map(RECORD.fullmatch, self.names())
        return sorted(int(found[1]) for found in names if found)

    def names(self) -> list[str]:
        """The files in the folder; none if it is not there."""
        return os.listdir(self.folder.path) if self.folder.path.is_dir() else []

    def recover(self) -> None:
        """Remove half-written files and damaged parts of this worker, to be made again.

        A part is damaged if its file is missing or has another size than its record says.
        """
        for found in map(PARTIAL.fullmatch, self.names()):
            if found and self.mine(int(found[1])):
                (self.folder.path / found[0]).unlink(missing_ok=True)
        for k in self.recorded():
            if self.mine(k) and self.read(k) is None:
                self.drop(k)

    def read(self, k: int) -> dict[str, Any] | None:
        """The record of part k; None without a whole one, or if its files are not of that size."""
        try:
            record = read_record(self.record(k))
            sizes = [(self.data(k), record["bytes"])]
            if record.get("rejects"):
                sizes.append((self.rejects(k), record["rejects"]["bytes"]))
            same = all(is_regular(file) and file.stat().st_size == size for file, size in sizes)
        except (FileNotFoundError, DamagedRecordError, KeyError):
            return None
        return record if same else None

    def is_intact(self, k: int) -> bool:
        """Whether every byte of part k is what its record says."""
        record = self.read(k)
        if record is None or file_sha256(self.data(k)) != record["sha256"]:
            return False
        rejects = record.get("rejects")
        return not rejects or file_sha256(self.rejects(k)) == rejects["sha256"]

    def drop(self, k: int) -> None:
        """Remove part k, its record first."""
        log.warning("part %d of %s is damaged and will be made again", k, self.output)
        for file in (self.record(k), self.data(k), self.rejects(k)):
            file.unlink(missing_ok=True)

    def finish(
        self,
        k: int,
        write: Callable[[Path], None],
        record: Mapping[str, Any],
        rejects: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """write(path), then the record with the size and sha256 of what was written.

        Raises WriteError if the disk refuses; then there is no record, and no part.
        """
        self.record(k).unlink(missing_ok=True)  # an old one would vouch for the new file
        with atomic_write(self.data(k)) as partial:
            write(partial)
            sizes: dict[str, Any] = measured(partial)
        if rejects:
            with atomic_write(self.rejects(k)) as partial:
                lines = (json.dumps(row, sort_keys=True, ensure_ascii=True) for row in rejects)
                partial.write_bytes("".join(f"{line}\n" for line in lines).encode())
                sizes["rejects"] = measured(partial)
        else:
            self.rejects(k).unlink(missing_ok=True)
        write_record(self.record(k), {**record, **sizes})

    # --- the end -------------------------------------------------------------------------------

    def missing(self, total: int) -> list[int]:
        """The parts among 0 ... total - 1 that are not there; none if they are assembled."""
        if not self.folder.path.is_dir() or self.folder.is_assembled():
            return [] if self.product.fault(sums=False) is None else list(range(total))
        return [k for k in range(total) if self.read(k) is None]

    def assemble(
        self,
        total: int,
        make: Callable[[list[Path], Path], None],
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """make(files of the parts, a path for the output), if no other worker does or did; close.

        make writes at that path; then the output, its rejected rows in OUT.rejects.jsonl and its
        record, of these metadata, take the place of old ones. Raises DamagedPartError if a part is
        not what was written; the same command makes it again.
        """
        try:
            lock = acquire(self.folder.path / "assemble.lock")
        except FileNotFoundError:  # the last worker removed the folder
            lock = None
        if lock is None:
            return False
        try:
            made = not (self.folder.is_assembled() and self.product.fault(sums=False) is None)
            if made:
                self.refuse_damaged(total)
                staged = self.folder.path / f"output{self.output.suffix}"
                self.gather(total, sibling(staged, ".rejects.jsonl"))
                sibling(staged, ".ids.jsonl").unlink(missing_ok=True)
                make([self.data(k) for k in range(total)], staged)
                with write_errors(self.output):
                    self.product.replace(staged, metadata or {})
                write_record(self.folder.assembled, {"parts": total})
        finally:
            os.close(lock)
        self.close()
        return made

    def refuse_damaged(self, total: int) -> None:
        """Remove the parts that are damaged, and raise DamagedPartError if there are any."""
        damaged = [k for k in range(total) if not self.is_intact(k)]
        for k in damaged:
            self.drop(k)
        if damaged:
            raise DamagedPartError(
                f"{len(damaged)} parts of {self.output} were damaged on the disk, the first of "
                f"them {damaged[0]}, and are removed; run the same command again to make them anew"
            )

    def gather(self, total: int, file: Path) -> None:
        """The rejected rows of all parts; without any there is no file, not even an old one."""
        some = [self.rejects(k) for k in range(total) if self.rejects(k).exists()]
        if not some:
            file.unlink(missing_ok=True)
            return
        with atomic_write(file) as partial, partial.open("wb") as stream:
            for part in some:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream)
