"""The folder that a run works in: its workers, its settings, and when it is removed.

OUT.parts/run.json holds the settings. Worker i of n holds the lock on worker-i-of-n.lock while it
works; who opens or leaves the folder holds open.lock. The kernel ends a lock with its process.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jaxbert.corpus import locks
from jaxbert.corpus.files import (
    DamagedRecordError,
    read_record,
    sibling,
    write_errors,
    write_record,
)
from jaxbert.corpus.locks import acquire
from jaxbert.corpus.product import Product
from jaxbert.errors import InputError, JaxbertError

# Differences that an error names; thousands of input files may differ at once.
NAMED = 10
ABSENT = object()
# Names that a run gives; what else lies in its folder is not removed. The last ones go last.
OURS = re.compile(r"(part-\d{6,}|output|worker-\d+-of-\d+|assemble|run)\..*|assembled(\..*)?")
LAST = ("assembled", "run.json")
# Seconds to wait for a lock that another process may hold only to see whether it is free.
GLANCE = 1.0


class RunBusyError(JaxbertError, OSError):
    """Another process is at work on the same output."""


class SettingsChangedError(JaxbertError, ValueError):
    """A run was begun with other inputs, another model or other settings."""


class Folder:
    """OUT.parts, as one of the workers has it."""

    def __init__(self, product: Product, worker: int, workers: int) -> None:
        """Nothing is touched before `open`."""
        if not 0 <= worker < workers:
            raise InputError(
                f"worker is {worker} of {workers}; workers are counted from 0 to {workers - 1}"
            )
        self.product, self.output = product, product.path
        self.worker, self.workers = worker, workers
        self.path = sibling(self.output, ".parts")
        self.assembled = self.path / "assembled"  # there once the output is
        self.own_lock: int | None = None

    def open(self, settings: Mapping[str, Any]) -> None:
        """Make the folder or go on in it.

        Raises RunBusyError if another process is this worker, or one of another number of workers;
        SettingsChangedError if the run was begun with other settings, with each difference named.
        """
        with write_errors(self.path):
            gate = self.enter()
            try:
                if self.is_assembled() and self.alone():
                    self.settle()
                self.own_lock = self.claim()
                self.compare(json.loads(json.dumps(settings)))
            except BaseException:
                self.release()
                raise
            finally:
                os.close(gate)

    def enter(self) -> int:
        """Make the folder if it is not there; the descriptor of its open.lock, held."""
        while True:
            if os.path.lexists(self.path) and (self.path.is_symlink() or not self.path.is_dir()):
                kind = "link" if self.path.is_symlink() else "file"
                raise InputError(f"{self.path} is a {kind}; move it away or name another output")
            self.path.mkdir(exist_ok=True)
            gate = self.path / "open.lock"
            with suppress(FileNotFoundError):  # the last worker removed it just now
                taken = acquire(gate, locks.PATIENCE)
                if taken is None:
                    raise RunBusyError(
                        f"{gate} is locked by {locks.holder(gate)} and was not given back within "
                        f"{locks.PATIENCE:g} s; end that process, or name another output"
                    )
                return taken

    def claim(self) -> int:
        """The lock of this worker; RunBusyError if it, or one of another number, is held."""
        for file in self.path.glob("worker-*-of-*.lock"):
            if not file.stem.endswith(f"-of-{self.workers}"):
                other = acquire(file, GLANCE)
                if other is None:
                    raise self.busy(file)
                os.close(other)
        file = self.path / f"worker-{self.worker}-of-{self.workers}.lock"
        own = acquire(file, GLANCE)
        if own is None:
            raise self.busy(file)
        return own

    def busy(self, file: Path) -> RunBusyError:
        """The error that says who is at work."""
        return RunBusyError(
            f"another process is at work on {self.output} ({file.stem.replace('-', ' ')}); wait "
            f"until it ends ({locks.holder(file)}), or name another output"
        )

    def compare(self, settings: dict[str, Any]) -> None:
        """Keep the settings of a new run; refuse others than those of an old one."""
        file = self.path / "run.json"
        if not file.exists():
            there = [f.name for f in self.path.iterdir() if f.suffix not in (".lock", ".partial")]
            if there:
                raise InputError(
                    f"{self.path} is no folder of a run (it has {min(there)} and no run.json); "
                    "move it away or name another output"
                )
            write_record(file, settings)
            return
        try:
            before = read_record(file)
        except DamagedRecordError as error:
            raise InputError(
                f"{error}, so its parts cannot be used; remove {self.path} to begin anew"
            ) from error
        changes = list(differences(before, settings))
        if changes:
            more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
            raise SettingsChangedError(
                f"{self.output} was begun with other settings: {'; '.join(changes[:NAMED])}{more}; "
                f"run the same command as before, or remove {self.path} to begin anew"
            )

    def close(self) -> None:
        """Leave; the last worker of an assembled run, or of one without any part, tidies up."""
        if self.own_lock is None:
            return
        gate = None
        try:
            with suppress(FileNotFoundError):  # somebody removed the folder
                gate = acquire(self.path / "open.lock", locks.PATIENCE)
        finally:
            self.release()
        if gate is not None:
            try:
                if self.over() and self.alone():
                    self.leave()
            finally:
                os.close(gate)

    def release(self) -> None:
        """Give the lock of this worker back."""
        if self.own_lock is not None:
            os.close(self.own_lock)
            self.own_lock = None

    def is_assembled(self) -> bool:
        """Whether the parts have been put together."""
        try:
            return bool(read_record(self.assembled))
        except (FileNotFoundError, DamagedRecordError):
            return False

    def settle(self) -> None:
        """After a run that was killed before it could tidy up: do so if the output is undamaged."""
        if self.product.fault() is None:
            self.clear()
        else:
            self.assembled.unlink()

    def over(self) -> bool:
        """Whether nobody needs the folder any more."""
        return self.is_assembled() or not any(self.path.glob("part-*"))

    def alone(self) -> bool:
        """Whether no worker is at work; whoever asks holds open.lock, so that none can start."""
        for file in self.path.glob("worker-*.lock"):
            lock = acquire(file, GLANCE)
            if lock is None:
                return False
            os.close(lock)
        return True

    def leave(self) -> None:
        """Remove the folder, unless somebody put something of their own there."""
        self.clear()
        with suppress(OSError):
            (self.path / "open.lock").unlink()
            self.path.rmdir()

    def clear(self) -> None:
        """Remove what runs write, in an order that is safe if the process is killed anywhere.

        The record of a part goes before the part, and LAST, which say that the run is over, last.
        """
        names = {name for name in os.listdir(self.path) if OURS.fullmatch(name)} - {*LAST}
        for name in [*sorted(names, key=lambda name: not name.endswith(".json")), *LAST]:
            (self.path / name).unlink(missing_ok=True)


def differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Each setting that differs, by its path, as "model.dtype was ... and is ...", in order."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            path = f"{name}.{key}" if name else key
            yield from differences(before.get(key, ABSENT), now.get(key, ABSENT), path)
    elif isinstance(before, list) and isinstance(now, list):
        for i in range(max(len(before), len(now))):
            old, new = (side[i] if i < len(side) else ABSENT for side in (before, now))
            yield from differences(old, new, f"{name}[{i}]")
    elif before != now or type(before) is not type(now):
        yield f"{name} was {shown(before)} and is {shown(now)}"


def shown(value: Any) -> str:
    """A setting in an error."""
    return "absent" if value is ABSENT else json.dumps(value, sort_keys=True, ensure_ascii=False)
