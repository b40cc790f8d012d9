"""Back to Hugging Face: write a model as transformers and sentence-transformers load it.

    python convert/to_huggingface.py MODEL FOLDER

The folder is opened again by jaxbert and, where transformers has code for it, by
sentence-transformers; both must give the vectors that the model gave. Exit status: 0 if they do, 1
if not (the folder stays), 2 if nothing could be written.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import TRANSFORMERS, NotDoneError, beside, put_in_place, run, vacant

from jaxbert.checkpoint.tensor_names.families import FAMILIES
from jaxbert.embedder import Embedder
from jaxbert.verify.compare import TEXTS

# Largest difference of a component over the longest vector. Both sides compute in float32 and in
# other orders: on the models of the tests it is at most 6e-7, but weights can make a rounding
# larger (notes/02, "Batch mates"). A mistake moves ten times as much.
TOLERANCE = 1e-5


def parser() -> argparse.ArgumentParser:
    """The model, and where it goes."""
    top = argparse.ArgumentParser(
        prog="to_huggingface.py",
        description="Write a model as transformers and sentence-transformers load it.",
    )
    top.add_argument("name", metavar="MODEL", help="folder or hub name")
    top.add_argument("folder", metavar="FOLDER", type=Path, help="where to write; new or empty")
    top.add_argument("--revision", help="branch, tag or commit on the hub")
    top.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
    return top


def write(embedder: Embedder, folder: Path) -> None:
    """The whole folder, or nothing."""
    place = vacant(folder)
    partial = beside(place)
    if partial.exists():
        raise NotDoneError(f"{partial} is left of a run that was broken off; remove it first")
    try:
        embedder.save_pretrained(partial)
        put_in_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def torch_vectors(folder: Path) -> np.ndarray:
    """The vectors of sentence-transformers, which reads the folder by itself."""
    try:
        import sentence_transformers
        import transformers
    except ModuleNotFoundError as error:
        raise NotDoneError(
            f"{error.name} is not installed, so the folder was written and not compared; it comes "
            "with jaxbert's extra named parity"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = sentence_transformers.SentenceTransformer(
        str(folder),
        device="cpu",
        local_files_only=True,
        model_kwargs={"dtype": "float32", "use_safetensors": True},
    )
    return np.asarray(model.encode(list(TEXTS)))


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference of a component over the longest vector."""
    if ours.shape != theirs.shape:
        return float("inf")
    longest = np.linalg.norm(theirs, axis=1).max()
    return float(np.abs(ours - theirs).max() / longest)


def compare(embedder: Embedder, folder: Path, ignore: Sequence[str]) -> tuple[list[str], bool]:
    """What both libraries make of the folder, in words, and whether it is the same model."""
    ours = embedder.encode(list(TEXTS))
    again = distance(Embedder.from_pretrained(folder, ignore_config=ignore).encode(TEXTS), ours)
    lines, agreed = [f"jaxbert reads it back: largest difference {again:.1e}"], again <= TOLERANCE
    family = "bert" if embedder.stored is None else embedder.stored.family
    if family not in TRANSFORMERS:
        lines.append(
            f"{FAMILIES[family].title}: transformers has no code of its own for this config.json, "
            "which names the remote code; with that it was not compared"
        )
        return lines, agreed
    theirs = distance(torch_vectors(folder), ours)
    lines.append(f"sentence-transformers in torch: largest difference {theirs:.1e}")
    return lines, agreed and theirs <= TOLERANCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and compare."""
    options = parser().parse_args(arguments)
    ignore = tuple(options.ignore_config)

    def work() -> bool:
        embedder = Embedder.from_pretrained(
            options.name, revision=options.revision, ignore_config=ignore
        )
        write(embedder, options.folder)
        lines, agreed = compare(embedder, options.folder, ignore)
        verdict = "the same vectors" if agreed else "the vectors DIFFER"
        print("\n".join([f"{options.folder} is written", *lines]))
        print(f"{verdict} on {len(TEXTS)} texts (tolerance {TOLERANCE:g} of the longest)")
        return agreed

    return run("to_huggingface.py", work)


if __name__ == "__main__":
    sys.exit(main())
