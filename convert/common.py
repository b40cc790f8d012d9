"""What programs that make a folder share: where it is written, what proves it, how they end."""

import sys
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

from jaxbert.checkpoint.hub import PATTERNS
from jaxbert.cli import one_line, warn
from jaxbert.errors import JaxbertError

# The families whose folders transformers reads with code of its own. JinaBERT's code is remote, and
# the config.json of a nomic-bert speaks to remote code in words that transformers does not read.
TRANSFORMERS = frozenset("bert distilbert modernbert mpnet roberta t5".split())


class NotDoneError(Exception):
    """What was asked for could not be done; nothing is where the result would be."""


def allowed(name: str) -> bool:
    """Whether a file is weights as safetensors or describes them: never a pickle, never code."""
    return any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def names(folder: Path) -> set[str]:
    """Every file below a folder, by its path from there, with slashes."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def vacant(folder: str | Path) -> Path:
    """The folder to be made, as an absolute path; NotDoneError where something is there."""
    place = Path(folder).resolve()
    if place.exists() and not place.is_dir():
        raise NotDoneError(f"{folder} is a file; name a new folder")
    if place.is_dir() and any(place.iterdir()):
        raise NotDoneError(f"{folder} is not empty; name a new folder, for none is written over")
    return place


def beside(folder: Path) -> Path:
    """Where a folder is written before it is complete."""
    return folder.with_name(f"{folder.name}.partial")


def put_in_place(partial: Path, folder: Path) -> None:
    """Give a complete folder its name."""
    if folder.is_dir():
        folder.rmdir()  # it is empty, and not every system renames over it
    partial.rename(folder)


def understood(folder: Path, program: str) -> bool:
    """Open the folder with all of jaxbert's checks, and print what it is, or why it is refused."""
    # Waits until here, so that --help and what needs no model do without jax.
    from jaxbert.verify.info import describe
    from jaxbert.verify.opened import load_model

    try:
        model = load_model(folder, revision=None, ignore_config=(), dtype="float32")
    except JaxbertError as error:
        print(f"{program}: {folder} is kept, but refused: {one_line(error)}", file=sys.stderr)
        return False
    print(describe(model).split("\n\n")[0])
    return True


def run(program: str, work: Callable[[], bool]) -> int:
    """Exit status: 0 if work finds all well, 1 if it does not, 2 with one sentence if it fails."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            return 0 if work() else 1
    except (NotDoneError, JaxbertError, OSError) as error:
        print(f"{program}: {one_line(error)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
    return 2
