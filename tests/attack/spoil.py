"""What a mutation is, what may become of a folder after it, and how one is drawn."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.attack.folders import Base, files_of

# What may become of a folder: refused when it is opened, refused at a text (late), or loaded as
# the same model or as a different one.
KNOWN = frozenset({"refused", "late", "same"})  # a difference can be known
REFUSED = frozenset({"refused"})  # it must not load, whatever it is
HARMLESS = frozenset({"same"})  # nothing has changed that anybody reads
FOLLOWED = frozenset({"refused", "different"})  # another model, which "same" would deny
OTHER = frozenset({"refused", "late", "same", "different"})  # another model, for all we can know


@dataclass(frozen=True)
class Spoiled:
    """What was done to a folder, in words, and what may become of it."""

    what: str
    allowed: frozenset[str]


class Folder:
    """A copy of a base that may be spoiled."""

    def __init__(self, base: Base, root: Path, bases: list[Base]) -> None:
        """root is the copy of base.root; bases are those that other files can be taken from."""
        self.base = base
        self.model = root / base.inside
        self.bases = bases

    @property
    def names(self) -> list[str]:
        """The paths of the model's files."""
        return files_of(self.model)

    def pick(self, random: Random, ending: str = "") -> Path | None:
        """One of the files whose name ends so; None where there is none."""
        names = [name for name in self.names if name.endswith(ending)]
        return self.model / random.choice(names) if names else None

    def find(self, name: str) -> Path | None:
        """The file of this name, in the folder or in one of its folders."""
        return next(
            (self.model / own for own in self.names if own.rsplit("/", 1)[-1] == name), None
        )

    def title(self, file: Path) -> str:
        """The path of a file in the model."""
        return str(file.relative_to(self.model))


# None: there is nothing to spoil so in this folder.
Mutation = Callable[[Folder, Random], Spoiled | None]


@dataclass(frozen=True)
class Drawn:
    """A spoiled folder and its story."""

    base: str
    group: str
    spoiled: Spoiled
    model: Path


def with_sums(folder: Folder, group: str, spoiled: Spoiled) -> Spoiled:
    """In a folder whose sums are known every changed file can be known."""
    if not folder.base.sums:
        return spoiled
    if spoiled.allowed == HARMLESS:
        return Spoiled(spoiled.what, KNOWN)
    if spoiled.allowed == FOLLOWED:
        return Spoiled(spoiled.what, REFUSED)
    # A file that is gone from a snapshot leaves no name behind; SOURCE.json knows it.
    lost = folder.base.sums == "hub" and group in ("lost", "places")
    if spoiled.allowed == OTHER and not lost:
        return Spoiled(spoiled.what, KNOWN)
    return spoiled


def draw(
    groups: dict[str, list[Mutation]], bases: list[Base], seed: int, number: int, place: Path
) -> Drawn:
    """Spoil a copy, in place, of one base in one way; seed and number decide all."""
    random = Random(f"{seed} {number}")
    while True:
        base, group = random.choice(bases), random.choice(list(groups))
        root = place / "folder"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base.root, root, symlinks=True)
        folder = Folder(base, root, bases)
        spoiled = random.choice(groups[group])(folder, random)
        if spoiled is not None:
            return Drawn(base.name, group, with_sums(folder, group, spoiled), folder.model)


def one_of(random: Random, table: dict[str, Any]) -> tuple[str, Any]:
    """A name and what it stands for."""
    name = random.choice(list(table))
    return name, table[name]
