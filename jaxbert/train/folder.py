"""The folder of a run: one process at a time, one setting, its metrics and its checkpoints."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jaxbert.corpus.bad_rows import ignore
from jaxbert.corpus.files import (
    DamagedRecordError,
    atomic_write,
    read_record,
    write_errors,
    write_record,
)
from jaxbert.corpus.folder import NAMED, RunBusyError, SettingsChangedError, differences
from jaxbert.corpus.locks import acquire, holder
from jaxbert.errors import InputError
from jaxbert.process.disk import sync
from jaxbert.train.checkpoints import Checkpoints
from jaxbert.train.step import State

SETTINGS, METRICS, LOCK = "settings.json", "metrics.jsonl", "run.lock"


class RunFolder:
    """A folder with settings.json, metrics.jsonl and checkpoints/, locked within a `with` block."""

    def __init__(
        self, path: str | os.PathLike[str], tell: Callable[[str], object] = ignore
    ) -> None:
        """Nothing is touched before `with`; tell is given a sentence about what is damaged."""
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path / "checkpoints", tell)
        self.lock: int | None = None

    def __enter__(self) -> Self:
        """Make the folder and lock it. Raises RunBusyError if another process has it."""
        with write_errors(self.path):
            if not self.path.is_dir() and os.path.lexists(self.path):
                raise InputError(f"{self.path} is a file; name another folder for the run")
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = acquire(self.path / LOCK)
        if self.lock is None:
            raise RunBusyError(
                f"another run is at work in {self.path} ({holder(self.path / LOCK)}); wait until "
                "it ends, or name another folder"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Give the lock of the folder back."""
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def compare(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings of a new run; refuse others than those of the run that is here.

        A run that has not done a step, perhaps for an error in its settings, is a new one. Raises
        SettingsChangedError, which names each difference, and InputError for a folder of something
        else.
        """
        file, now = self.path / SETTINGS, json.loads(json.dumps(settings))
        if not file.exists():
            left = [own for own in self.path.iterdir() if own.suffix != ".partial"]
            there = sorted(own.name for own in left if own.name != LOCK)
            if there:
                raise InputError(
                    f"{self.path} is no folder of a run (it has {there[0]} and no {SETTINGS}); "
                    "name another one"
                )
            write_record(file, now)
            return
        try:
            before = read_record(file)
        except DamagedRecordError as error:
            raise InputError(f"{error}; remove {self.path} to begin anew") from error
        changes = list(differences(before, now))
        if changes and not self.begun:
            write_record(file, now)
        elif changes:
            more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
            raise SettingsChangedError(
                f"{self.path} holds a run of other settings: {'; '.join(changes[:NAMED])}{more}; "
                f"give the settings of before, or another folder, or remove {self.path}"
            )

    @property
    def begun(self) -> bool:
        """Whether the run has done a step."""
        return next(self.records(), None) is not None or bool(self.checkpoints.steps())

    # --- metrics ----------------------------------------------------------------------------------

    @property
    def metrics(self) -> Path:
        """One line of JSON for each step."""
        return self.path / METRICS

    def records(self) -> Iterator[dict[str, Any]]:
        """The records of the steps, up to a line that was not finished."""
        if not self.metrics.exists():
            return
        with self.metrics.open("rb") as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except ValueError:
                    return
                if not line.endswith(b"\n") or not isinstance(record, dict):
                    return
                yield record

    def keep(self, steps: int) -> dict[str, Any] | None:
        """Drop the records of later steps, which will be done again; the last one that is kept."""
        last = None
        with atomic_write(self.metrics) as partial, partial.open("w") as out:
            for record in self.records():
                if not isinstance(record.get("step"), int) or record["step"] > steps:
                    break
                last = record
                out.write(json.dumps(record) + "\n")
        return last

    def save(self, state: State) -> None:
        """Write a checkpoint, with the records up to it on the disk before. Raises WriteError."""
        with write_errors(self.metrics):
            if self.metrics.exists():
                sync(self.metrics)
        self.checkpoints.save(state)

    def add(self, record: Mapping[str, Any]) -> None:
        """Append the record of a step. Raises WriteError."""
        with write_errors(self.metrics), self.metrics.open("a") as out:
            out.write(json.dumps(record, allow_nan=False) + "\n")
