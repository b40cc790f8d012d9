"""2_Dense: config.json and model.safetensors <-> Dense.

Source: sentence-transformers 6.2.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import read_object, typed, write
from jaxbert.checkpoint.sentence_transformers.keys import NAMES, check_keys, check_reads
from jaxbert.checkpoint.tensor_file import FLOATS, headers, readers
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.head import Dense

# The activations that are read and written, by the last part of torch's class name.
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid")
KEYS = NAMES | {"in_features", "out_features", "bias", "activation_function"}


def read_dense(folder: Path, ignore: Collection[str], reads: str = "sentence_embedding") -> Dense:
    """config.json and model.safetensors of a Dense module, which must read this feature."""
    config = folder / "config.json"
    raw = read_object(config)
    check_keys(raw, config, KEYS, ignore)
    check_reads(raw, config, reads)
    name = str(raw.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = name.rsplit(".", 1)[-1]
    if not name.startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{config} has activation_function {shown(name)}; understood are torch.nn's "
            f"{', '.join(ACTIVATIONS)}"
        )
    file = folder / "model.safetensors"
    if not is_there(file):
        raise CheckpointError(f"{folder} has no model.safetensors; save the model as safetensors")
    entries = list(headers(file))
    for entry in entries:
        if entry.dtype not in FLOATS:
            raise CheckpointError(f"{file} stores {entry.name} as {entry.dtype}; not understood")
    shapes: dict[str, tuple[Any, ...]] = {
        "linear.weight": (raw.get("out_features"), raw.get("in_features"))
    }
    if typed(raw, "bias", bool, True, config):
        shapes["linear.bias"] = (raw.get("out_features"),)
    if {entry.name: entry.shape for entry in entries} != shapes:
        raise CheckpointError(
            f"{file} does not hold what its config.json says ({shown(shapes)}); restore it"
        )
    with readers([file], "zero_weights" in ignore) as read:
        tensors = {entry.name: read(entry).astype(np.float32) for entry in entries}
    return Dense(tensors["linear.weight"], tensors.get("linear.bias"), activation)


def write_dense(folder: Path, step: Dense) -> None:
    """Write config.json and model.safetensors into the module's folder."""
    place = "linear" if step.activation == "Identity" else "activation"
    config = {
        "in_features": step.weight.shape[1],
        "out_features": step.weight.shape[0],
        "bias": step.bias is not None,
        "activation_function": f"torch.nn.modules.{place}.{step.activation}",
    }
    write(folder / "config.json", config)
    tensors = {"linear.weight": np.ascontiguousarray(step.weight)}
    if step.bias is not None:
        tensors["linear.bias"] = np.ascontiguousarray(step.bias)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
