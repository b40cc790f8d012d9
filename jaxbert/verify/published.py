"""What others have published for known weights, and whether a model reproduces it.

It stands in JSON files, an entry a line, each with where it was published and how it was computed.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxbert.checkpoint import hub
from jaxbert.errors import InputError
from jaxbert.verify.compare import cosine
from jaxbert.verify.opened import Model
from jaxbert.verify.published_scores import PublishedScores
from jaxbert.verify.published_vectors import PublishedVector


class Published(Protocol):
    """Numbers that were published for a model: a vector of a text, or scores of documents."""

    @property
    def model(self) -> str:
        """The hub's name of the model."""

    @property
    def source(self) -> str:
        """The repository and the file in which they were published."""

    @property
    def how(self) -> str:
        """What computed them, and where the tolerance comes from."""

    @property
    def text(self) -> str:
        """The text, or the query."""

    @property
    def title(self) -> str:
        """What they are, in a few words."""

    @property
    def components(self) -> tuple[float, ...]:
        """The numbers, or the first of them."""

    @property
    def tolerance(self) -> float:
        """The largest difference of a number that is allowed."""

    @property
    def cosine(self) -> float | None:
        """The least cosine of both sides that is allowed, where it means something."""

    @property
    def revision(self) -> str | None:
        """The revision of the weights, where the source names one."""

    def compute(self, model: Model) -> np.ndarray:
        """The same numbers of a model, [n] with n >= len(components); InputError for another."""


@dataclass(frozen=True)
class Outcome:
    """How far published numbers and ours are apart."""

    largest: float  # the largest difference; NaN where there is nothing to compare
    cosine: float | None  # where the whole vector is there
    reproduced: bool


# --- what is known -----------------------------------------------------------------------------

KINDS = {"published_vectors.json": PublishedVector, "published_scores.json": PublishedScores}


@cache
def everything() -> tuple[Published, ...]:
    """All that the package knows; the tests hold what its files must be."""
    known: list[Published] = []
    for name, kind in KINDS.items():
        file = resources.files("jaxbert.verify") / name
        own = [kind(**fields(raw)) for raw in json.loads(file.read_text(encoding="utf-8"))]
        if not all(entry.components and 0 < entry.tolerance < 1 for entry in own):
            raise InputError(f"{file} has entries that every model would agree with; restore it")
        known += own
    return tuple(known)


def fields(raw: dict[str, Any]) -> dict[str, Any]:
    """The fields of an entry, its lists as tuples."""
    return {key: tuple(own) if isinstance(own, list) else own for key, own in raw.items()}


def names() -> list[str]:
    """The models for which something is published, by their names on the hub."""
    return list(dict.fromkeys(entry.model for entry in everything()))


def published(model_name: str) -> list[Published]:
    """What is published for a model; InputError lists the names where there is nothing."""
    found = [entry for entry in everything() if entry.model == model_name]
    if not found:
        raise InputError(
            f"no published values are known for {model_name!r}; there are some for: "
            f"{', '.join(names())}"
        )
    return found


def identify(model: str | os.PathLike[str]) -> str | None:
    """The name under which a hub name's or folder's values are published; None if not known.

    A folder is known by its place alone: the installed package, or a snapshot in the hub's cache.
    """
    if not Path(model).is_dir():
        name = os.fspath(model)
        name = hub.DEFAULT_MODEL if name == hub.DEFAULT_MODEL.split("/")[1] else name
        return name if name in names() else None
    folder, package = Path(model).resolve(), hub.installed_package()
    if package is not None and folder == package.resolve():
        return hub.DEFAULT_MODEL
    cached = {f"models--{name.replace('/', '--')}": name for name in names()}
    if folder.parent.name != "snapshots":
        return None
    return cached.get(folder.parents[1].name)


# --- the comparison ----------------------------------------------------------------------------


def check(entry: Published, model: Model) -> Outcome:
    """Compute what was published, as the entry says and not as a folder does, and compare.

    Raises InputError for a model that makes other numbers than the entry has.
    """
    ours, theirs = entry.compute(model), np.array(entry.components)
    largest = float(np.abs(ours[: len(theirs)] - theirs).max())
    if entry.cosine is None:
        return Outcome(largest, None, largest <= entry.tolerance)
    alike = cosine(ours[None], theirs[None])
    return Outcome(largest, alike, largest <= entry.tolerance and alike >= entry.cosine)
