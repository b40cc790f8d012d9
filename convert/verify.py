"""Torch beside JAX: the states of transformers' encoder and of jaxbert on the same texts.

    python convert/verify.py MODEL [--report FILE]

Exit status: 0 if every layer agrees, 1 if one does not, 2 if the two could not be compared.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from common import TRANSFORMERS

from jaxbert import __version__
from jaxbert.checkpoint.tensor_names.families import FAMILIES
from jaxbert.cli import one_line, warn
from jaxbert.errors import JaxbertError
from jaxbert.verify.compare import TOLERANCE
from jaxbert.verify.opened import Model, load_model
from jaxbert.verify.report import side_by_side

# The class of transformers that is the encoder alone, by model_type; BERT's may be left out.
CLASSES = {
    None: "BertModel",
    "bert": "BertModel",
    "camembert": "CamembertModel",
    "distilbert": "DistilBertModel",
    "modernbert": "ModernBertModel",
    "mpnet": "MPNetModel",
    "mt5": "MT5EncoderModel",
    "roberta": "RobertaModel",
    "t5": "T5EncoderModel",
    "xlm-roberta": "XLMRobertaModel",
}
# Those that would also make a pooler, which may be missing in the file and is not compared.
POOLERS = frozenset("BertModel CamembertModel MPNetModel RobertaModel XLMRobertaModel".split())


class NotComparedError(Exception):
    """Torch has no states to compare with."""


def parser() -> argparse.ArgumentParser:
    """The model, and how jaxbert is to load it."""
    top = argparse.ArgumentParser(
        prog="verify.py", description="Run transformers' encoder in torch beside jaxbert."
    )
    top.add_argument("name", metavar="MODEL", help="folder or hub name")
    top.add_argument("--revision", help="branch, tag or commit on the hub")
    top.add_argument(
        "--ignore-config",
        action="append",
        default=[],
        metavar="KEY",
        help="a key of the model's JSON files to pass over; may be repeated",
    )
    top.add_argument(
        "--dtype",
        choices=tuple(TOLERANCE),
        default="float32",
        help="of jaxbert's weights; torch computes in float32 (default: %(default)s)",
    )
    top.add_argument("--report", type=Path, metavar="FILE", help="write what is printed here too")
    return top


def check_that_torch_has_code(model: Model) -> None:
    """Refuse what transformers would load as another model, leaving most weights random."""
    if model.stored.family not in TRANSFORMERS:
        raise NotComparedError(
            f"{model.stored.folder} is {FAMILIES[model.stored.family].title}, for whose "
            "config.json transformers has no code; `jaxbert verify` compares it with the NumPy "
            "reference"
        )


def torch_states(
    folder: Path, model_type: str | None, ids: np.ndarray, mask: np.ndarray
) -> list[np.ndarray]:
    """The states in float32, embeddings first; transformers reads the folder by itself."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise NotComparedError(
            f"{error.name} is not installed; it comes with jaxbert's extra named parity"
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    name = CLASSES[model_type]
    try:
        model, loaded = getattr(transformers, name).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **({"add_pooling_layer": False} if name in POOLERS else {}),
        )
    except Exception as error:  # the library raises whatever its parts raise
        raise NotComparedError(f"transformers cannot load {folder}: {one_line(error)}") from error
    if loaded["missing_keys"]:
        names = ", ".join(sorted(loaded["missing_keys"])[:3])
        raise NotComparedError(f"transformers found no weights in {folder} for {names}, ...")
    given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
    with torch.inference_mode():
        states = model.eval()(**given, output_hidden_states=True).hidden_states
    return [state.numpy() for state in states]


def verify(model: Model, dtype: str) -> tuple[str, bool]:
    """A table of the differences between jaxbert and torch, and whether they agree."""
    check_that_torch_has_code(model)

    def states(ids: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
        kind = model.stored.raw.get("model_type")
        return torch_states(model.stored.folder, kind, ids.astype(np.int64), mask.astype(np.int64))

    return side_by_side(model, dtype, states, "torch in float32")


def versions() -> str:
    """What was compared, for a report that is read elsewhere."""
    names = ("jax", "jaxlib", "flax", "torch", "transformers")
    return ", ".join([f"jaxbert {__version__}", *(f"{name} {version(name)}" for name in names)])


def write_report(file: Path, name: str, text: str) -> None:
    """The comparison of a model as a file, whole or not at all."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(f"{name}\n{versions()}\n\n{text}\n", encoding="utf-8")
    partial.replace(file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare one model; what prevents that is one sentence on stderr and exit status 2."""
    options = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warn
            model = load_model(
                options.name,
                revision=options.revision,
                ignore_config=tuple(options.ignore_config),
                dtype=options.dtype,
            )
            text, agreed = verify(model, options.dtype)
        if options.report is not None:
            write_report(options.report, options.name, text)
    except (JaxbertError, NotComparedError, OSError) as error:
        print(f"verify.py: {one_line(error)}", file=sys.stderr)
        return 2
    print(text)
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
