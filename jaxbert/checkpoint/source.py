"""Where the weights of a model came from, and whether it still has them and the folder too."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from weakref import ReferenceType, ref

import jax

from jaxbert.checkpoint.opening import OpenedModel
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensors import Checkpoint

# A file's size, its time of change and its place on the disk: others after every change.
FileMark = tuple[int, int, int]


@dataclass(frozen=True)
class Origin:
    """Which folder the weights came from, as another process finds it, and how its files were."""

    name: str  # as it was asked for: a path or a name on the hub
    root: Path  # the model's folder, absolute
    inner: str  # from there to the folder with the weights
    revision: str | None  # the commit, where it came from the hub
    ignore_config: tuple[str, ...]
    marks: dict[str, FileMark]  # of config.json and the weight files

    @classmethod
    def of(cls, opened: OpenedModel) -> Self:
        """The origin of an opened model."""
        root, stored = opened.folder, opened.stored
        files = ["config.json", *(file.name for file in stored.files)]
        snapshot = root.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", root.name)
        return cls(
            name=opened.name,
            root=root.absolute(),
            inner=stored.folder.relative_to(root).as_posix(),
            revision=root.name if snapshot else None,
            ignore_config=opened.ignore_config,
            marks={file: file_mark(stored.folder / file) for file in files},
        )

    @property
    def folder(self) -> Path:
        """The folder with config.json and the weights."""
        return self.root / self.inner

    def unchanged(self) -> bool:
        """Whether the files are still those that were opened."""
        try:
            return all(file_mark(self.folder / file) == old for file, old in self.marks.items())
        except OSError:
            return False

    def sums(self) -> dict[str, str]:
        """The SHA-256 of each file."""
        return {file: sha256(self.folder / file) for file in self.marks}


def file_mark(file: Path) -> FileMark:
    """What tells whether a file was changed."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


class ModuleMark:
    """Which arrays and parts a module has now, without keeping them alive."""

    def __init__(self, module: Any) -> None:
        """Remember the arrays themselves: they cannot be changed, only exchanged."""
        leaves, self.tree = jax.tree.flatten(module)
        self.leaves: list[ReferenceType[Any]] = [ref(leaf) for leaf in leaves]

    def fits(self, module: Any) -> bool:
        """Whether the module, or a copy of it, still has all of them."""
        leaves, tree = jax.tree.flatten(module)
        return self.tree == tree and all(  # type: ignore[operator]
            leaf is old() for leaf, old in zip(leaves, self.leaves, strict=True)
        )


@dataclass(frozen=True)
class Source:
    """What is known of a model that came from a folder; every model made otherwise has none."""

    stored: Checkpoint  # the record that the weights are written back by
    origin: Origin
    module_mark: ModuleMark

    @classmethod
    def of(cls, opened: OpenedModel, module: Any) -> Self:
        """The source of a module, or of several, with the weights of an opened model."""
        return cls(opened.stored, Origin.of(opened), ModuleMark(module))

    def has(self, module: Any) -> bool:
        """Whether the module has the weights that the folder has, neither of them changed."""
        return self.module_mark.fits(module) and self.origin.unchanged()

    def moved(self, place: Path, module: Any) -> "Source":
        """The source after the module was saved to place: another where that was its own folder."""
        if not inside(self.stored.folder, place):
            return self
        entries, unused = (
            {name: replace(entry, file=place / entry.file.name) for name, entry in some.items()}
            for some in (self.stored.entries, self.stored.unused)
        )
        stored = replace(self.stored, folder=place, entries=entries, unused=unused)
        opened = OpenedModel(str(place), place, stored, self.origin.ignore_config)
        return Source.of(opened, module)


def inside(folder: Path, place: Path) -> bool:
    """Whether a folder is this one or below it."""
    return folder.resolve().is_relative_to(place)
