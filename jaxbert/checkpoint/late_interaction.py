"""A late-interaction model: which folder is one, its settings, and its projection of tokens."""

from collections.abc import Collection
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxbert.checkpoint.colbert import ARCHITECTURE, METADATA, read_colbert
from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.heads import beside, load_head
from jaxbert.checkpoint.kinds import ANSWERS, Task
from jaxbert.checkpoint.late_settings import LateSettings
from jaxbert.checkpoint.sentence_transformers.modules_json import listed_modules
from jaxbert.checkpoint.sentence_transformers.multi_vector import module_weight, read_multi_vector
from jaxbert.checkpoint.tensor_names.heads import TOKEN_PROJECTION
from jaxbert.checkpoint.tensor_names.spelling import listing
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import TokenProjection
from jaxbert.process.backend import computing

LINEAR = "linear.weight"


def open_late_interaction(
    task: Task,
    stored: Checkpoint,
    ignore: Collection[str],
    device: jax.Device | None = None,
) -> tuple[TokenProjection, LateSettings]:
    """The projection, in float32, and the settings of a folder.

    They are those of its modules, where modules.json lists more than a Transformer, else a
    ColBERT's: the tensor linear.weight and artifact.metadata. Raises CheckpointError for a folder
    of another kind, naming the class that opens it.
    """
    task.check("MultiVectorEncoder")
    folder, there = task.folder, beside(stored)
    check_late(folder, stored, task.sign, [*there])
    if len(listed_modules(folder)) > 1:
        if LINEAR in there:
            raise CheckpointError(
                f"{folder} has {there[LINEAR].name} and a Dense module, of which one is too many; "
                "fetch the folder again"
            )
        weight = module_weight(folder, stored, ignore)
        with computing():
            empty = jax.eval_shape(lambda: projection(stored.config, weight.shape[0]))
            leaf = jax.device_put(np.ascontiguousarray(weight.T), device)
        head = jax.tree.unflatten(jax.tree.structure(empty), [leaf])
        return head, read_multi_vector(folder, stored, ignore)
    if LINEAR not in there:
        raise CheckpointError(
            f"{stored.folder} says that it is a ColBERT, but has no {LINEAR}; fetch the weights "
            "again"
        )
    shape = there[LINEAR].shape
    if len(shape) != 2:
        raise CheckpointError(f"{there[LINEAR].name} has shape {shape}; it must be [width, d]")
    settings = read_colbert(stored, shape[0])
    head = load_head(stored, TOKEN_PROJECTION, lambda: projection(stored.config, shape[0]), device)
    return head, settings


def projection(config: EncoderConfig, width: int) -> TokenProjection:
    """A projection of that width, drawn at random."""
    return TokenProjection(config.sizes, width, rngs=nnx.Rngs(0), std=config.initializer_range)


def check_late(folder: Path, stored: Checkpoint, sign: str, names: list[str]) -> None:
    """Refuse a folder with a second head, and one that only a tensor says to be a ColBERT."""
    heads = sorted(name for name in names if ANSWERS.fullmatch(name))
    if heads:
        raise CheckpointError(
            f"{folder} has {listing(heads)} beside its projection of tokens, which is not "
            "understood; no vector is computed without it"
        )
    if sign == LINEAR and not is_there(stored.folder / METADATA):
        raise CheckpointError(
            f"{folder} has {LINEAR}, but nothing says that it is a ColBERT: neither {METADATA} nor "
            f"the architecture {ARCHITECTURE} in config.json; restore them"
        )
