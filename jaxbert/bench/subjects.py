"""What is timed: a model opened by the class of its kind, and the items that it takes."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np

from jaxbert.checkpoint.kinds import Task
from jaxbert.errors import InputError

# Results of items, each an array of numbers that another engine must give too.
Results = list[np.ndarray]


class Subject(NamedTuple):
    """The class that opens a model, what it calls an item, and how it computes many of them."""

    face: str
    item: str
    items: Callable[[Sequence[str]], list[Any]]
    run: Callable[[Any, list[Any]], Results]

    def load(self, **arguments: Any) -> Any:
        """The model, by from_pretrained of its class."""
        return getattr(import_module("jaxbert"), self.face).from_pretrained(**arguments)

    def call(self, engine: str, dtype: str) -> str:
        """The same as a line of Python."""
        return f'{self.face}.from_pretrained(..., engine="{engine}", dtype="{dtype}")'


def pairs(texts: Sequence[str]) -> list[Any]:
    """Each text with the one before it, the first with the last."""
    return [(texts[i - 1], text) for i, text in enumerate(texts)]


SUBJECTS: Mapping[str, Subject] = {
    "Embedder": Subject("Embedder", "text", list, lambda model, items: [*model.encode(items)]),
    "CrossEncoder": Subject(
        "CrossEncoder", "pair", pairs, lambda model, items: [*model.predict(items)]
    ),
    "MultiVectorEncoder": Subject(
        "MultiVectorEncoder", "text", list, lambda model, items: [*model.encode_document(items)]
    ),
}


def subject_of(task: Task) -> Subject:
    """The subject of a folder's model; InputError for one that no class here computes in lists."""
    found = next((SUBJECTS[face] for face in task.kind.opens if face in SUBJECTS), None)
    if found is None:
        raise InputError(
            f"{task.folder} is a {task.kind.title}, which bench does not time; name an embedder, a "
            "reranker, a classifier of texts or a late-interaction model"
        )
    return found
