"""`modules=`: models that are put together of sentence-transformers' modules.

They are modules of torch, so sentence-transformers writes their folder, and this package reads it.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from jaxbert.errors import InputError, InputTypeError

log = logging.getLogger(__name__)

THEIRS = "sentence_transformers.sentence_transformer.model"


@contextmanager
def folder_for(name: str | os.PathLike[str] | None, modules: Any) -> Iterator[str]:
    """The folder or name of a model; for modules a folder that is gone behind the context.

    A name goes before modules, as in sentence-transformers, which is logged. Raises InputError for
    neither, and InputTypeError for what is no list of sentence-transformers' modules.
    """
    if modules is not None and name is not None:
        log.warning("the `modules` argument is ignored, for a model was named: %s", name)
    if name is not None:
        yield os.fspath(name)
        return
    if modules is None:
        raise InputError("there is no model without a name; pass model_name_or_path")
    if not modules:
        raise InputError("An empty modules list was passed; pass a module, or the name of a model")
    with TemporaryDirectory(prefix="jaxbert-modules-") as folder:
        write(modules, folder)
        yield folder


def write(modules: Any, folder: str) -> None:
    """Have sentence-transformers write the modules, all of which must be its own."""
    listed = isinstance(modules, Sequence) and not isinstance(modules, str)
    if not listed or not all(is_theirs(module) for module in modules):
        raise InputTypeError(
            "modules holds what is no module of sentence-transformers, and is all that can be read "
            "here; pass those, or the name or folder of a model"
        )
    model = import_module(THEIRS).SentenceTransformer(modules=list(modules), device="cpu")
    model.save_pretrained(folder, create_model_card=False)


def is_theirs(module: Any) -> bool:
    """Whether an object is a module of sentence-transformers, by where its class is defined."""
    return type(module).__module__.startswith("sentence_transformers.") and hasattr(module, "save")
