"""What `jaxbert info` says: what a model is for, its sizes, and what of its files is not used."""

import re
from importlib.metadata import PackageNotFoundError, version

import jax

from jaxbert.checkpoint.heads import beside
from jaxbert.checkpoint.sums import sha256
from jaxbert.checkpoint.tensor_names.families import FAMILIES
from jaxbert.encoder import Encoder
from jaxbert.errors import printable
from jaxbert.model.attention import Attend, name_of, plan
from jaxbert.verify.opened import Model


def describe(model: Model) -> str:
    """The task, the family, sizes, parameters and lengths, and what was not used."""
    config, stored, task = model.encoder.config, model.stored, model.opened.task
    family = FAMILIES[stored.family]
    limit = model.encoder.position.limit
    rows = {
        "folder": stored.folder,
        "task": f"{task.kind.title} ({task.sign})",
        "opens with": ", ".join(task.kind.opens),
        "family": family.title + ("" if family.verified else " (inferred, not verified)"),
        "layers": f"{config.num_layers}, each of {config.num_heads} heads of {config.sizes['h']}",
        "widths": f"model {config.hidden_size}, feed-forward {config.intermediate_size}",
        "vocabulary": f"{config.vocab_size} tokens, {config.type_vocab_size} types",
        "position": f"{config.position}, {'any length' if limit is None else f'up to {limit}'}",
        "feed-forward": f"{config.feed_forward}, {config.activation}",
        "attention": attention_title(model.encoder.attention),
        "engines": engines_title(),
        "parameters": f"{sum(weight.size for weight in model.encoder.weights().values()):,}",
        "stored as": ", ".join(sorted({entry.dtype for entry in stored.entries.values()})),
        "sha256": ", ".join(sha256(file) for file in stored.files),
        "tokenizer": "none" if model.tokenizer is None else "yes",
        **model.part.rows(config.hidden_size),
    }
    lines = [printable(f"{key:<14}{value or 'none'}") for key, value in rows.items()]
    passed_over = [left_aside(model), not_used(model)]
    return "\n".join([*lines, "", layer_table(model.encoder), "", *map(printable, passed_over)])


def engines_title() -> str:
    """What can compute here: JAX, and OpenVINO where it is installed."""
    try:
        return f"jax, openvino {version('openvino')} (jaxbert bench compares them)"
    except PackageNotFoundError:
        return 'jax (openvino is not installed: pip install "jaxbert[openvino]")'


def attention_title(attention: Attend) -> str:
    """How attention is computed here: the choice by length, or what was asked for."""
    name = name_of(attention)
    return plan(jax.default_backend()) if name == "auto" else f"{name}, as asked for"


def layer_table(encoder: Encoder) -> str:
    """Every weight with its shape and size; those under layers. have the leading axis l."""
    return "\n".join(
        f"  {name:<44}{' x '.join(map(str, weight.shape)):>20}{weight.size:>14,}"
        for name, weight in encoder.weights().items()
    )


def left_aside(model: Model) -> str:
    """The tensors that the class which opens the model does not use."""
    entries = beside(model.stored)
    names = (entry.name for plain, entry in entries.items() if plain not in model.part.used)
    # One name for all layers: a decoder has hundreds of tensors.
    kinds = sorted({re.sub(r"\.\d+(?=\.)", ".*", name) for name in names})
    return f"left aside in the checkpoint: {', '.join(kinds) or 'nothing'}"


def not_used(model: Model) -> str:
    """The keys of the JSON files that change nothing."""
    keys = model.part.not_used(model.stored.not_used)
    return f"not used in the JSON files: {', '.join(keys) or 'nothing'}"
