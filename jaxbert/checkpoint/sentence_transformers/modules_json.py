"""modules.json: which modules a folder has, in which order, and in which folders they are.

Source: sentence-transformers 6.2.
"""

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath

from jaxbert.checkpoint.files import is_there, unreadable
from jaxbert.checkpoint.json_file import read_json, typed, write
from jaxbert.checkpoint.sums import check_listed
from jaxbert.errors import CheckpointError, shown

MODULES = "modules.json"
# Modules of other packages that are those of sentence-transformers under another name.
SAME = {"pylate.models.Dense.Dense": "sentence_transformers.models.Dense"}
# What sentence-transformers calls the folder of a module.
MODULE = re.compile(r"\d+_[A-Za-z]\w*")


def transformer_folder(folder: Path) -> Path:
    """Where config.json and the weights are: mostly the folder itself, once 0_Transformer."""
    check_listed(folder)
    return listed_modules(folder)[0][1]


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module of an embedder: a Transformer, Pooling, then others.

    Without a modules.json a Transformer alone, whose states are then pooled by their mean.
    """
    modules = listed_modules(folder)
    if not is_there(folder / MODULES):
        refuse_orphans(folder)
        return modules
    kinds = [kind for kind, _ in modules]
    if kinds[1:2] != ["Pooling"] or kinds.count("Pooling") != 1:
        raise CheckpointError(
            f"{folder / MODULES} lists {', '.join(kinds)}; understood is a Transformer, then "
            "Pooling, then Dense and Normalize modules"
        )
    return modules


def listed_modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module that modules.json lists; the first is the Transformer."""
    file = folder / MODULES
    if not is_there(file):
        return [("Transformer", folder)]
    listed, modules = read_json(file), []
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise CheckpointError(f"{file} is no list of modules; restore it")
    for module in listed:
        path = typed(module, "path", str, "", file)
        name = typed(module, "type", str, "", file)
        package, _, kind = SAME.get(name, name).rpartition(".")
        if not package.startswith("sentence_transformers."):
            raise CheckpointError(
                f"{file} has a module of type {shown(module.get('type'))}, which is code of its "
                "own; only the modules of sentence_transformers are understood"
            )
        if module.get("kwargs"):
            raise CheckpointError(f"{file} passes kwargs {shown(module['kwargs'])}; not understood")
        modules.append((kind, inside(folder, path, file)))
    if not modules or modules[0][0] != "Transformer":
        kinds = ", ".join(kind for kind, _ in modules) or "nothing"
        raise CheckpointError(
            f"{file} lists {kinds}; understood is a Transformer, then Pooling, then Dense and "
            "Normalize modules"
        )
    return modules


def refuse_orphans(folder: Path) -> None:
    """Folders of modules without the file that says what they are for."""
    for own in sorted(folder.iterdir()):
        if MODULE.fullmatch(own.name):
            raise CheckpointError(
                f"{folder} has {own.name} but no {MODULES}, so what makes its vectors is lost; "
                "fetch the folder again (Encoder loads the encoder alone)"
            )


def inside(folder: Path, path: str, file: Path) -> Path:
    """The folder of a module, which must be inside as it is written; links in it are followed."""
    steps = re.split(r"[/\\]", path)
    if ".." in steps or path.startswith(("/", "\\")) or PureWindowsPath(path).drive:
        raise CheckpointError(f"{file} points outside the folder ({shown(path)}); not followed")
    own = folder / path
    try:
        mode = own.stat().st_mode if os.path.lexists(own) else None
    except (OSError, ValueError) as error:
        raise unreadable(own, error) from error
    if mode is not None and not stat.S_ISDIR(mode):
        raise CheckpointError(f"{file} names {shown(path)}, which is no folder; restore it")
    return own


def write_modules(folder: Path, kinds: Sequence[str]) -> list[Path]:
    """Write the list of a Transformer in the folder itself and of the modules behind it.

    kinds are the modules' names, such as Pooling. Returns the folder of each, which is then there.
    """
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds, start=1))]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, ["Transformer", *kinds], strict=True))
    ]
    write(folder / MODULES, listed)
    for path in paths[1:]:
        (folder / path).mkdir(exist_ok=True)
    return [folder / path for path in paths[1:]]
