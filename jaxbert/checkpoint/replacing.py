"""A model's folder is replaced as a whole: at every moment it is the old model, the new, or none.

The new files are written into a folder inside it, with a random name. Then the old config.json
goes, without which nothing loads; then the other old files; the new ones move in, config.json last.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from safetensors import SafetensorError

from jaxbert.arguments import path
from jaxbert.errors import (
    CheckpointError,
    InputError,
    JaxbertError,
    WriteError,
    shown,
)
from jaxbert.process.disk import sync

# The folder that the new files are written into.
PARTIAL = ".jaxbert-*.partial"
CONFIG, MODULES = "config.json", "modules.json"
# What a model's folder consists of, here and in the libraries that read it. Of another model each
# of these would be taken for this one's; what is not listed, such as README.md, stays.
MODEL_FILES = (
    CONFIG,
    MODULES,
    "jaxbert.json",  # what code of a user's own the encoder needs
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "model*.safetensors",
    "model*.safetensors.index.json",
    "pytorch_model*.bin",
    "pytorch_model*.bin.index.json",
    "adapter_model.safetensors",
    "adapter_config.json",
    "tf_model*.h5",
    "flax_model*.msgpack",
    "rust_model.ot",
    "model*.onnx",
    "openvino_model*",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "SOURCE.json",  # says what convert/from_hub.py fetched
)
# Folders that hold one module, or the same model for another library.
MODEL_FOLDER = re.compile(r"\d+_[A-Z]\w*|onnx|openvino")
# A whole model, where an encoder alone would be taken to belong to the rest.
WHOLE = (MODULES, "tokenizer.json", "vocab.txt", "sentence_bert_config.json")


@contextmanager
def replaced(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """An empty folder to write a model into, which then takes the place of what `folder` holds.

    A link to a folder is followed. Raises WriteError where something cannot be written, and
    CheckpointError where a name is taken; until the last file is written the folder is as it was.
    """
    place = destination(folder)
    new = not place.exists()
    room: Path | None = None
    with explained(place):
        try:
            place.mkdir(parents=True, exist_ok=True)
            with alone(place):
                prefix, suffix = PARTIAL.split("*")
                room = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=place))
                yield room
                names = files_of(room)
                check_vacant(place, names)
                mode = (room / CONFIG).stat().st_mode
                for name in names:
                    (room / name).chmod(mode)  # safetensors makes files that only their owner reads
                    sync(room / name)
                swap(place, room, names)
        finally:
            if room is not None:
                shutil.rmtree(room, ignore_errors=True)
            if new:
                with suppress(OSError):  # something is in it, so it is a model
                    place.rmdir()


def destination(folder: str | os.PathLike[str]) -> Path:
    """The folder to write, as an absolute path without links, from what a caller passes."""
    given = path(folder, "a folder")
    try:
        place = given.resolve()
        dangling = given.is_symlink() and not given.exists()
        taken = place.exists() and not place.is_dir()
    except (OSError, RuntimeError) as error:  # links in a circle, a name that is too long
        raise InputError(f"{shown(folder)} cannot be the name of a folder ({error})") from error
    if dangling:
        raise InputError(f"{given} is a link to nothing; remove it, or name another folder")
    if taken:
        raise InputError(f"{given} is a file; name a folder")
    return place


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """What the operating system refuses while a model is written, in one sentence."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, JaxbertError):
            raise
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number else str(error)
        raise WriteError(
            f"the model could not be written to {place} ({reason}); make room or permission and "
            "save again"
        ) from error


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """No other process saves into the folder meanwhile; the lock dies with this process."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WriteError(
                f"another program is saving into {place}; save again when it is done"
            ) from error
        except OSError:  # a file system without locks
            pass
        else:
            for left in place.glob(PARTIAL):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)


def check_alone(folder: str | os.PathLike[str]) -> None:
    """Refuse an encoder by itself in the folder of a whole model, whose rest would stay."""
    place = destination(folder)
    for name in WHOLE:
        if os.path.lexists(place / name):
            raise CheckpointError(
                f"{place} has the {name} of a whole model, which would be taken for this "
                "encoder's; save an Embedder there, or the encoder into a folder of its own"
            )


def files_of(folder: Path) -> list[str]:
    """Every file below the folder, by its path from there; config.json comes last."""
    found = (file for file in folder.rglob("*") if not file.is_dir())
    names = sorted(file.relative_to(folder).as_posix() for file in found)
    return sorted(names, key=lambda name: name == CONFIG)


def check_vacant(place: Path, names: list[str]) -> None:
    """Refuse a folder where a file has to be: it is the user's, and is not deleted."""
    for name in names:
        parts = PurePosixPath(name).parts
        if really_folder(place / name):
            raise CheckpointError(f"{place / name} is a folder where a file belongs; remove it")
        if len(parts) > 1 and (place / parts[0]).exists() and not (place / parts[0]).is_dir():
            raise CheckpointError(f"{place / parts[0]} is a file where a folder belongs; remove it")


def really_folder(path: Path) -> bool:
    """Whether this is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


# --- the swap ------------------------------------------------------------------------------------


def swap(place: Path, room: Path, names: list[str]) -> None:
    """The old model's files go, config.json first; those of room move in, config.json last."""
    for file in old_files(place):
        file.unlink(missing_ok=True)
    for name in names:
        if not (place / name).parent.is_dir():
            (place / name).parent.mkdir()
        (room / name).replace(place / name)
    for folder in module_folders(place):
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def old_files(place: Path) -> list[Path]:
    """The files of the model that a folder holds, in the order in which they may go.

    Links are taken for what they are and not followed: what they point to belongs to others.
    """
    folders = [place, *module_folders(place)]
    links = [folder for folder in folders[1:] if folder.is_symlink()]
    found = [
        file
        for folder in folders
        if really_folder(folder)
        for file in sorted(folder.iterdir())
        if not really_folder(file) and is_model_file(file.name)
    ]
    # Without a config.json nothing loads, so they go first; the one that modules.json points to
    # before the folder's own, which counts only where modules.json does not.
    configs = [path for path in found if path.name == CONFIG]
    first = [*links, *(path for path in configs if path.parent != place)]
    first += [path for path in configs if path.parent == place]
    return first + [path for path in found if path.name != CONFIG]


def is_model_file(name: str) -> bool:
    """Whether a file of this name is part of a model."""
    return any(fnmatchcase(name, pattern) for pattern in MODEL_FILES)


def module_folders(place: Path) -> list[Path]:
    """The folders of a model's modules: those listed in modules.json, and those so called."""
    named = {path for path in place.iterdir() if MODEL_FOLDER.fullmatch(path.name)}
    try:
        listed = json.loads((place / MODULES).read_text(encoding="utf-8"))
        paths = [str(module.get("path", "")) for module in listed]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        paths = []  # no model was here, or one that nobody can load
    inside = [place / path for path in paths if inside_of(place, path)]
    return sorted(path for path in {*named, *inside} if path.is_dir() or path.is_symlink())


def inside_of(place: Path, path: str) -> bool:
    """Whether a path of modules.json is a folder below the model's own."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and ".." not in parts
        and not PurePosixPath(path).is_absolute()
        and ("\0" not in path and (place / path).resolve() != place)
    )
