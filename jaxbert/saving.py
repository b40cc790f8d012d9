"""A model -> a folder as transformers and sentence-transformers read it, and this package too."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxbert import checkpoint
from jaxbert.checkpoint import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.huggingface import config_and_family, raw_config
from jaxbert.loading import weights
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.modules import OLD_FLAGS
from jaxbert.rules import Rule
from jaxbert.stack import Stack
from jaxbert.storage import FLOATS, Entry

# What the published code knows of an encoder, by our names of it.
DESCRIBED = ("embeddings", "layers", "position")


def save_encoder(
    module: Any, make: Callable[[EncoderConfig], Any], folder: str | PathLike[str]
) -> None:
    """config.json and model.safetensors of an encoder, in the dtype of its weights.

    make(config) is an encoder of nothing but what config says; where the module is another, as one
    with a position scheme of its own, nothing is written and CheckpointError raised.
    """
    folder = Path(folder)
    raw, family = raw_config(module.config)
    plain = jax.eval_shape(lambda: make(replace(module.config, num_layers=1)))
    for name in DESCRIBED:
        own, other = getattr(module, name), getattr(plain, name)
        if jax.tree.structure(own) != jax.tree.structure(other):  # type: ignore[operator]
            raise CheckpointError(
                f"the encoder's {name} are not what its config makes, so a config.json cannot "
                "describe them; keep the weights with encoder.weights() and safetensors"
            )
    held = weights(module)
    stored = Checkpoint(folder, raw, module.config, family, {}, {})
    entries = {}
    if {rule.path for rule in stored.table} == set(held):
        entries = {rule.name: entry(rule, held, folder) for rule in stored.table}
    if not entries or config_and_family(raw, entries, ()) != (module.config, family):
        raise CheckpointError(
            "the encoder's config is a mixture that no published code computes, so it cannot be "
            "saved; keep the weights with encoder.weights() and safetensors"
        )
    checkpoint.save(replace(stored, entries=entries), held, folder)


def entry(rule: Rule, held: Mapping[str, Any], folder: Path) -> Entry:
    """What the file will say of the tensor that a rule is about."""
    own = rule.own_part(held[rule.path])
    dtype = next(key for key, numpy in FLOATS.items() if numpy == own.dtype.name)
    return Entry(rule.name, folder / "model.safetensors", dtype, rule.published_shape(own.shape))


def save_stack(stack: Stack, hidden_size: int, folder: Path) -> None:
    """modules.json and what it lists, with the names that every sentence-transformers reads."""
    modules: list[Pooling | Dense | Normalize] = [stack.pooling, *stack.after]
    paths = ["", *(f"{i}_{type(step).__name__}" for i, step in enumerate(modules, start=1))]
    kinds = ["Transformer", *(type(step).__name__ for step in modules)]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(zip(paths, kinds, strict=True))
    ]
    write(folder / "modules.json", listed)
    settings = {"max_seq_length": stack.max_length, "do_lower_case": stack.lower_case}
    write(folder / "sentence_bert_config.json", settings)
    described = {
        "prompts": stack.prompts,
        "default_prompt_name": stack.default_prompt_name,
        "similarity_fn_name": stack.similarity,
    }
    width = {} if stack.truncate_dim is None else {"truncate_dim": stack.truncate_dim}
    write(folder / "config_sentence_transformers.json", described | width)
    for path, step in zip(paths[1:], modules, strict=True):
        (folder / path).mkdir(exist_ok=True)
        if isinstance(step, Pooling):
            write(folder / path / "config.json", pooling_config(step, hidden_size))
        elif isinstance(step, Dense):
            save_dense(step, folder / path)
        else:
            write(folder / path / "config.json", {})


def pooling_config(pooling: Pooling, hidden_size: int) -> dict[str, Any]:
    """The old flags, which every version reads, unless the modes have an order of their own."""
    size = {"word_embedding_dimension": hidden_size, "include_prompt": pooling.include_prompt}
    flags = {flag: mode in pooling.modes for flag, mode in OLD_FLAGS.items()}
    if pooling.modes == tuple(mode for mode in OLD_FLAGS.values() if mode in pooling.modes):
        return size | flags
    size["embedding_dimension"] = size.pop("word_embedding_dimension")
    return size | {"pooling_mode": list(pooling.modes)}


def save_dense(step: Dense, folder: Path) -> None:
    """config.json and model.safetensors of a Dense module."""
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


def write(file: Path, contents: Any) -> None:
    """Contents as a JSON file."""
    file.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
