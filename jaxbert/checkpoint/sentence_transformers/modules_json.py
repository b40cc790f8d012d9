"""The modules of a sentence-transformers folder: which there are, and what each one says.

Source: sentence-transformers 6.2 and the older files it still reads: modules.json, 1_Pooling,
2_Dense, 2_Normalize, sentence_bert_config.json.
"""

import os
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from jaxbert.checkpoint.config_keys import says_nothing
from jaxbert.checkpoint.files import is_there, unreadable
from jaxbert.checkpoint.json_file import optional, read_json, read_object, typed
from jaxbert.checkpoint.sums import check_listed
from jaxbert.checkpoint.tensor_file import FLOATS, headers, readers
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.head import Dense, Normalize, Pooling

MODULES = "modules.json"
# What sentence-transformers calls the folder of a module.
MODULE = re.compile(r"\d+_[A-Za-z]\w*")
# In the order in which several old flags are concatenated.
OLD_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MODES = tuple(OLD_FLAGS.values())
# The activations of a Dense module, by the last part of torch's class name.
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid")
TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


def transformer_folder(folder: Path) -> Path:
    """Where config.json and the weights are: mostly the folder itself, once 0_Transformer."""
    check_listed(folder)
    return read_modules(folder)[0][1] if is_there(folder / MODULES) else folder


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module, in order; the first is the Transformer."""
    file = folder / MODULES
    if not is_there(file):
        refuse_orphans(folder)
        return [("Transformer", folder)]
    listed, modules = read_json(file), []
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise CheckpointError(f"{file} is no list of modules; restore it")
    for module in listed:
        path = typed(module, "path", str, "", file)
        package, _, kind = typed(module, "type", str, "", file).rpartition(".")
        if not package.startswith("sentence_transformers."):
            raise CheckpointError(
                f"{file} has a module of type {shown(module.get('type'))}, which is code of its "
                "own; only the modules of sentence_transformers are understood"
            )
        if module.get("kwargs"):
            raise CheckpointError(f"{file} passes kwargs {shown(module['kwargs'])}; not understood")
        modules.append((kind, inside(folder, path, file)))
    kinds = [kind for kind, _ in modules]
    once = kinds[:2] == ["Transformer", "Pooling"] and kinds.count("Pooling") == 1
    if not once:
        raise CheckpointError(
            f"{file} lists {', '.join(kinds) or 'nothing'}; understood is a Transformer, then "
            "Pooling, then Dense and Normalize modules"
        )
    return modules


def refuse_orphans(folder: Path) -> None:
    """Folders of modules without the file that says what they are for."""
    for own in sorted(folder.iterdir()):
        if MODULE.fullmatch(own.name):
            raise CheckpointError(
                f"{folder} has {own.name} but no {MODULES}, so what makes its vectors is lost; "
                "fetch the folder again (Encoder loads the encoder alone)"
            )


def inside(folder: Path, path: str, file: Path) -> Path:
    """The folder of a module, which must be inside as it is written; links in it are followed."""
    steps = re.split(r"[/\\]", path)
    if ".." in steps or path.startswith(("/", "\\")) or PureWindowsPath(path).drive:
        raise CheckpointError(f"{file} points outside the folder ({shown(path)}); not followed")
    own = folder / path
    try:
        mode = own.stat().st_mode if os.path.lexists(own) else None
    except (OSError, ValueError) as error:
        raise unreadable(own, error) from error
    if mode is not None and not stat.S_ISDIR(mode):
        raise CheckpointError(f"{file} names {shown(path)}, which is no folder; restore it")
    return own


def check_keys(
    raw: Mapping[str, Any], file: Path, known: Collection[str], ignore: Collection[str]
) -> None:
    """Refuse a key that nobody here has read about, unless it says nothing."""
    for key in unread(raw, {*known, *ignore}):
        raise CheckpointError(
            f"{file} has {key} = {shown(raw[key])}, which is not understood; if it does not change "
            f'the vectors, pass ignore_config=("{key}",)'
        )


def unread(raw: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """The keys that nobody reads and that say something."""
    return [key for key, value in raw.items() if key not in known and not says_nothing(value)]


def check_reads_the_vector(raw: Mapping[str, Any], file: Path) -> None:
    """A module after pooling must read and write the pooled vector."""
    for key in ("module_input_name", "module_output_name"):
        if raw.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise CheckpointError(f"{file} has {key} = {shown(raw[key])}; not understood")


# What is passed on to transformers' classes, by its old and its new names.
ARGUMENTS = tuple(
    "model_args tokenizer_args config_args model_kwargs processor_kwargs config_kwargs".split()
)
NAMES = frozenset({"module_input_name", "module_output_name"})
DENSE = NAMES | {"in_features", "out_features", "bias", "activation_function"}


def read_transformer(folder: Path, ignore: Collection[str]) -> dict[str, Any]:
    """sentence_bert_config.json, or the first of its old names that is there."""
    for name in TRANSFORMER_FILES:
        if is_there(folder / name):
            raw = read_object(folder / name)
            break
    else:
        return {}
    for key in ARGUMENTS:
        given = typed(raw, key, Mapping, {}, folder / name) or {}
        # Permission to run code, which is never asked for here; the tensors decide what this is.
        raw[key] = {k: value for k, value in given.items() if k != "trust_remote_code"}
    settings = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config"}
    settings |= {"unpad_inputs"}  # how a batch is laid out, not what is computed
    check_keys(raw, folder / name, settings | {"module_output_name"}, ignore)
    modalities = typed(raw, "modality_config", Mapping, {}, folder / name)
    text = typed(modalities, "text", Mapping, {}, folder / name)
    given = {
        "transformer_task": raw.get("transformer_task", "feature-extraction"),
        "module_output_name": raw.get("module_output_name", "token_embeddings"),
        "method": text.get("method", "forward"),
        "method_output_name": text.get("method_output_name", "last_hidden_state"),
    }
    expected = ("feature-extraction", "token_embeddings", "forward", "last_hidden_state")
    for (key, value), good in zip(given.items(), expected, strict=True):
        if value != good:
            raise CheckpointError(
                f"{folder / name} has {key} = {shown(value)}; only {good!r} is understood"
            )
    return raw


def read_pooling(folder: Path, ignore: Collection[str]) -> Pooling:
    """1_Pooling/config.json; old flags count only where the new pooling_mode is absent."""
    file = folder / "config.json"
    raw = read_object(file)
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    check_keys(raw, file, known | set(OLD_FLAGS), ignore)
    flagged = [mode for flag, mode in OLD_FLAGS.items() if typed(raw, flag, bool, False, file)]
    chosen = typed(raw, "pooling_mode", str | list, flagged or "mean", file)
    modes = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    for mode in modes or (None,):
        if mode not in MODES:
            raise CheckpointError(
                f"{file} has the pooling mode {shown(mode)}; understood are: {', '.join(MODES)}"
            )
    return Pooling(modes, typed(raw, "include_prompt", bool, True, file))


def read_normalize(folder: Path, ignore: Collection[str]) -> Normalize:
    """config.json of a Normalize module; the folder may be absent."""
    raw = optional(folder / "config.json")
    check_keys(raw, folder / "config.json", NAMES, ignore)
    check_reads_the_vector(raw, folder / "config.json")
    return Normalize()


def read_dense(folder: Path, ignore: Collection[str]) -> Dense:
    """config.json and model.safetensors of a Dense module."""
    config = folder / "config.json"
    raw = read_object(config)
    check_keys(raw, config, DENSE, ignore)
    check_reads_the_vector(raw, config)
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
