"""A folder with torch's pickles -> a folder with the same tensors as safetensors, bit for bit.

    python convert/from_torch.py FOLDER OUT

Wherever FOLDER has a pytorch_model.bin, or shards that pytorch_model.bin.index.json lists, and no
model.safetensors beside it, OUT has a model.safetensors with the same names, dtypes and bits. JSON,
text and safetensors files are copied; pickles and code are not. torch opens the pickles with
weights_only, which makes tensors and nothing else: no code in them runs.

Exit status: 0 if OUT is made and jaxbert understands it; 1 if jaxbert refuses it, and it is kept;
2 if it could not be made.
"""

import argparse
import importlib
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from common import (
    NotDoneError,
    allowed,
    beside,
    names,
    put_in_place,
    run,
    understood,
    vacant,
)

from jaxbert.checkpoint.files import opened_file, pointer
from jaxbert.checkpoint.json_file import read_object
from jaxbert.checkpoint.sums import SOURCE, sha256
from jaxbert.checkpoint.tensor_file import opened
from jaxbert.cli import one_line

PROGRAM = "from_torch.py"
PICKLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
# What torch, safetensors and NumPy all have.
DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool"
).split()
SAFE = ("model.safetensors", "model.safetensors.index.json")


def parser() -> argparse.ArgumentParser:
    """Where the pickles are, and where to write."""
    top = argparse.ArgumentParser(
        prog=PROGRAM, description="Turn a folder with torch's pickles into one with safetensors."
    )
    top.add_argument("folder", metavar="FOLDER", help="has pytorch_model.bin, or shards of it")
    top.add_argument("out", metavar="OUT", help="new; written whole or not at all")
    return top


# --- reading -----------------------------------------------------------------------------------


def pickles(folder: Path, found: set[str]) -> dict[str, list[Path]]:
    """The model.safetensors to be made, by path from the folder, and the pickles that go into it.

    found are the folder's files. One that has a model.safetensors already is left alone.
    """
    jobs = {}
    places = {Path(name).parent for name in found if Path(name).name in (PICKLE, INDEX)}
    for place in sorted(places):
        if any((place / safe).as_posix() in found for safe in SAFE):
            continue
        single = (place / PICKLE).as_posix() in found
        files = [folder / place / PICKLE] if single else shards(folder / place / INDEX)
        jobs[(place / SAFE[0]).as_posix()] = files
    if not jobs:
        raise NotDoneError(
            f"{folder} has no {PICKLE} without a {SAFE[0]} beside it; there is nothing to do"
        )
    return jobs


def fetched(folder: Path, found: set[str]) -> set[str]:
    """The files without safetensors that are pointers of a version control system."""
    lost = set()
    for name in found:
        if fnmatchcase(Path(name).name, "*.safetensors*"):
            with (folder / name).open("rb") as stream:
                lost |= {name} if pointer(stream) else set()
    return found - lost


def weight_map(index: Path) -> dict[str, str]:
    """Which tensor an index puts into which shard."""
    listed = read_object(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise NotDoneError(f"{index} has no weight_map; restore it")
    return {name: str(file) for name, file in listed.items()}


def shards(index: Path) -> list[Path]:
    """The files of an index, which must stand beside it."""
    files = [index.parent / name for name in sorted(set(weight_map(index).values()))]
    for file in files:
        if file.parent != index.parent or not file.is_file():
            raise NotDoneError(f"{index} lists {file.name}, which is not there; restore it")
    return files


def load(file: Path) -> dict[str, Any]:
    """The tensors of one pickle by name, as torch reads them; nothing else in it is made or run."""
    import torch

    with opened_file(file) as stream:
        mapped = stream.read(4) == b"PK\x03\x04"  # older files are no zip and cannot be mapped
    try:
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises whatever its parts raise
        raise NotDoneError(refusal(file, error)) from error
    named = isinstance(held, Mapping) and all(isinstance(name, str) for name in held)
    if not named or not held:
        raise NotDoneError(f"{file} holds no tensors by name; save model.state_dict() and no more")
    for name, tensor in held.items():
        if not isinstance(tensor, torch.Tensor):
            raise NotDoneError(
                f"{file} has {name}, which is no tensor but of type {type(tensor).__name__}; save "
                "model.state_dict() and no more"
            )
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or str(tensor.dtype).removeprefix("torch.") not in DTYPES:
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise NotDoneError(
                f"{file} has {name}, which is no dense tensor of numbers ({kind}); save it as one"
            )
    return {name: tensor.detach() for name, tensor in held.items()}


def refusal(file: Path, error: Exception) -> str:
    """Why torch did not open a file, without its advice to open it unsafely."""
    wants = re.search(r"GLOBAL (\S+)", str(error))
    if wants:
        return (
            f"{file} wants {wants[1]}, which is code and no tensor; it was not run, and nothing is "
            "converted: save model.state_dict() and no more where the model was made"
        )
    told = re.search(r"WeightsUnpickler error:\s*(.*)", str(error))
    reason = told[1] if told else one_line(error).split(". ")[0]
    return f"{file} is damaged or holds more than tensors ({reason}); fetch it again"


def load_all(files: list[Path]) -> dict[str, Any]:
    """The tensors of all shards of a model, which must be those of the index, each once."""
    held: dict[str, Any] = {}
    for file in files:
        own = load(file)
        twice = sorted(held.keys() & own.keys())
        if twice:
            raise NotDoneError(f"{twice[0]} is stored twice, in {file} too; restore it")
        held |= own
    if files[0].name != PICKLE:
        index = files[0].parent / INDEX
        other = sorted(held.keys() ^ weight_map(index).keys())
        if other:
            raise NotDoneError(f"{index} and its shards disagree about {other[0]}; restore them")
    return held


# --- writing -----------------------------------------------------------------------------------


def save(held: dict[str, Any], file: Path) -> None:
    """The tensors as safetensors; those that share memory, or stride through it, as copies."""
    import torch
    from safetensors.torch import save_file

    copies = {
        name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in held.items()
    }
    save_file(copies, file, metadata={"format": "pt"})


def compare(held: dict[str, Any], file: Path) -> None:
    """Every tensor of the written file, read without torch, must be what torch loaded."""
    import torch

    with opened(file) as written:
        if set(written.keys()) != set(held):
            raise NotDoneError(f"{file} does not have the names that torch loaded; try again")
        for name, tensor in held.items():
            ours = written.get_tensor(name)
            theirs = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
            kinds = f"torch.{ours.dtype.name}", ours.shape, str(tensor.dtype), tuple(tensor.shape)
            if kinds[:2] != kinds[2:] or ours.tobytes() != theirs.tobytes():
                raise NotDoneError(f"{name} in {file} is not what torch loaded; try again")


def copy(folder: Path, found: set[str], partial: Path) -> None:
    """What describes the weights, and weights that are safetensors already."""
    for name in sorted(found):
        # A SOURCE.json is about the folder that was fetched, not about this one.
        if allowed(name) and Path(name).name != INDEX and name != SOURCE:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            with opened_file(folder / name):  # which says so if it is a pointer
                shutil.copyfile(folder / name, partial / name)


def convert(files: list[Path], file: Path) -> str:
    """Write the tensors of some pickles as one safetensors file; a line about it."""
    held = load_all(files)
    file.parent.mkdir(parents=True, exist_ok=True)
    save(held, file)
    compare(held, file)
    return f"{len(held)} tensors, {file.stat().st_size:,} bytes, sha256 {sha256(file)}"


def from_torch(folder: Path, out: str) -> bool:
    """Convert a folder; whether jaxbert understands the result."""
    try:
        importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise NotDoneError(
            f"{error.name} is not installed; it comes with jaxbert's extra named parity"
        ) from error
    if not folder.is_dir():
        raise NotDoneError(f"{folder} is no folder; fetch the model first")
    place = vacant(out)
    partial = beside(place)
    if partial.exists():
        raise NotDoneError(f"{partial} is left of an interrupted run; delete it and try again")
    found = fetched(folder, {name for name in names(folder) if not name.startswith(".")})
    jobs = pickles(folder, found)
    partial.mkdir(parents=True)
    try:
        copy(folder, found, partial)
        lines = [f"{name}: {convert(files, partial / name)}" for name, files in jobs.items()]
        put_in_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(*lines, "every tensor is bit for bit what torch loaded", sep="\n")
    return understood(Path(out), PROGRAM)


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert one folder; what prevents it is one sentence on stderr and exit status 2."""
    options = parser().parse_args(arguments)
    return run(PROGRAM, lambda: from_torch(Path(options.folder), options.out))


if __name__ == "__main__":
    sys.exit(main())
