"""An opened checkpoint -> a module with its weights."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import jax
import numpy as np
from jax.typing import DTypeLike

from jaxbert.checkpoint.tensors import Checkpoint, fill
from jaxbert.model.config import EncoderConfig
from jaxbert.process.backend import computing

Module = TypeVar("Module", bound=Any)


def weights(module: Any) -> dict[str, Any]:
    """Every weight by its path as a dotted name, without the wrapper that holds its value."""
    return {
        jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value"): leaf
        for path, leaf in jax.tree.leaves_with_path(module)
    }


def load(
    stored: Checkpoint,
    make: Callable[[EncoderConfig], Module],
    dtype: DTypeLike,
    device: jax.Device | None = None,
) -> Module:
    """make(config) with the checkpoint's weights in its leaves; those of layers have axis l first.

    They are put on the device, None: JAX's default. Only the shapes of one layer are made, for all
    are alike. On a CPU the device shares float32 weights with NumPy: they are in memory once.
    """
    layers = stored.config.num_layers
    with computing():
        empty = jax.eval_shape(lambda: make(replace(stored.config, num_layers=1)))
        shapes = {
            name: (layers, *leaf.shape[1:]) if name.startswith("layers.") else leaf.shape
            for name, leaf in weights(empty).items()
        }
        filled = fill(stored, shapes)
        own = jax.device_put([np.asarray(filled.pop(name), dtype) for name in shapes], device)
    module = jax.tree.unflatten(jax.tree.structure(empty), own)
    # It was traced with one layer: that takes 0.03 s, and 0.7 s with the 24 of a large model.
    module.config = stored.config
    return module
