"""Keeps a run from reading what it writes."""

import os
from collections.abc import Sequence
from pathlib import Path

from jaxbert.corpus.files import sibling
from jaxbert.corpus.product import ENDINGS
from jaxbert.errors import InputError


class OwnFiles:
    """The files that one run writes, by their real paths."""

    def __init__(self, output: Path) -> None:
        """output is that of the run."""
        files = [sibling(output, ending) for ending in (*ENDINGS.values(), ".json")]
        # Of OUT the folder alone is resolved, for OUT itself is what the run will put there.
        self.files = {real for file in files for real in (real_path(file), in_place(file))}
        self.parts = sibling(in_place(output), ".parts")

    def __contains__(self, path: object) -> bool:
        """Whether a pattern is not meant to find this file: of this run, or a part of any run."""
        return isinstance(path, str) and (self.writes(path) or is_part(real_path(path)))

    def writes(self, name: str) -> bool:
        """Whether the run writes this file; links are followed."""
        real = real_path(name)
        return real in self.files or self.parts in real.parents

    def refuse(self, given: Sequence[str]) -> None:
        """InputError if one of the names is what the run writes."""
        for name in given:
            if name != "-" and self.writes(name):
                raise InputError(f"{name} is what this run writes; name another output")


def real_path(name: str | Path) -> Path:
    """The path without links; unlike Path.resolve, links in a circle are no error."""
    return Path(os.path.realpath(name))


def in_place(file: Path) -> Path:
    """The path of a file in the real folder that it is in."""
    return real_path(file.parent) / file.name


def is_part(file: Path) -> bool:
    """Whether a file lies in the folder that a run works in."""
    folder = file.parent
    return folder.suffix == ".parts" and os.path.lexists(folder / "run.json")
