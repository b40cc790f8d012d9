"""Vectors that others have published for known weights, and whether an encoder reproduces them.

They stand in published.json, one a line, each with where it was published and how it was computed.
"""

import json
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxbert.checkpoint import hub
from jaxbert.encoder import Encoder
from jaxbert.errors import InputError
from jaxbert.inference.similarity import unit_length
from jaxbert.model.head import pool
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.compare import cosine


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published vector, or its first components; or the cosine of two texts' vectors."""

    model: str  # the hub's name
    source: str  # repository and file
    how: str  # what computed it, and where the tolerance comes from
    text: str
    value: Literal["mean", "cls", "token"]  # the state, pooled in one of two ways or of one token
    width: int  # of the whole vector
    components: tuple[float, ...]
    tolerance: float  # the largest difference of a component
    cosine: float | None = None  # the least cosine, where the whole vector is there
    normalised: bool = False
    row: int | None = None  # which token, [CLS] being 0
    other: str | None = None  # a second text: the only component is the cosine of both vectors
    revision: str | None = None  # of the weights, where the source names one

    @property
    def whole(self) -> bool:
        """Whether all components of the vector are there."""
        return self.other is None and len(self.components) == self.width

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        name = f"token {self.row}" if self.value == "token" else self.value
        if self.other is not None:
            return f"cosine of {name}s"
        return name + (", length one" if self.normalised else "")


@dataclass(frozen=True)
class Outcome:
    """A published vector beside ours."""

    largest: float  # the largest difference of a component; NaN where there is nothing to compare
    cosine: float | None  # where the whole vector is there
    reproduced: bool


# --- what is known -----------------------------------------------------------------------------


@cache
def everything() -> tuple[Published, ...]:
    """All published vectors that the package knows; the tests hold what its file must be."""
    file = resources.files("jaxbert.verify") / "published.json"
    listed = json.loads(file.read_text(encoding="utf-8"))
    known = tuple(Published(**{**raw, "components": tuple(raw["components"])}) for raw in listed)
    if not all(entry.components and 0 < entry.tolerance < 1 for entry in known):
        raise InputError(f"{file} has entries that every vector would agree with; restore it")
    return known


def names() -> list[str]:
    """The models that have published vectors, by their names on the hub."""
    return list(dict.fromkeys(entry.model for entry in everything()))


def published(model_name: str) -> list[Published]:
    """The published vectors of a model; InputError lists the names where there are none."""
    found = [entry for entry in everything() if entry.model == model_name]
    if not found:
        raise InputError(
            f"no published vectors are known for {model_name!r}; there are some for: "
            f"{', '.join(names())}"
        )
    return found


def identify(model: str | os.PathLike[str]) -> str | None:
    """The name under which a hub name's or folder's vectors are published; None if not known.

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


def check(entry: Published, encoder: Encoder, tokenizer: Tokenizer) -> Outcome:
    """Compute what was published, pooled as the entry says and not as a folder does, and compare.

    Raises InputError for an encoder of another width, which is of another model.
    """
    width = encoder.config.hidden_size
    if width != entry.width:
        raise InputError(
            f"vectors of {entry.model} have {entry.width} components, but this encoder makes "
            f"{width}: it is another model, so compare it with what is published for its own name"
        )
    ours, theirs = compute(entry, encoder, tokenizer), np.array(entry.components)
    largest = float(np.abs(ours[: len(theirs)] - theirs).max())
    if entry.cosine is None:
        return Outcome(largest, None, largest <= entry.tolerance)
    alike = cosine(ours[None], theirs[None])
    return Outcome(largest, alike, largest <= entry.tolerance and alike >= entry.cosine)


def compute(entry: Published, encoder: Encoder, tokenizer: Tokenizer) -> np.ndarray:
    """Our vector of the entry's text [width]; with a second text the cosine of both, [1]."""
    ours = vector(entry, entry.text, encoder, tokenizer)
    if entry.other is None:
        return ours
    beside = vector(entry, entry.other, encoder, tokenizer)
    return np.array([cosine(ours[None], beside[None])])


def vector(entry: Published, text: str, encoder: Encoder, tokenizer: Tokenizer) -> np.ndarray:
    """float32 [width]; NaN where the text has no such token."""
    ids = tokenizer([text])[0][None]
    states = encoder(ids).astype(jnp.float32)
    if entry.row is not None:
        found = np.full(entry.width, np.nan, np.float32)
        if entry.row < ids.shape[1]:
            found = np.asarray(states[0, entry.row])
    else:
        found = np.asarray(pool(states, jnp.ones(ids.shape, bool), (entry.value,))[0])
    return unit_length(found) if entry.normalised else found
