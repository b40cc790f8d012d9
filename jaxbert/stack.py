"""The rest of a sentence-transformers folder -> Stack: what happens to the token states.

Source: sentence-transformers 6.2 and the older files it still reads: modules.json, 1_Pooling,
2_Dense, 2_Normalize, sentence_bert_config.json, config_sentence_transformers.json.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.errors import CheckpointError
from jaxbert.storage import opened, read_json, read_object

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
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# The activations of a Dense module, by the last part of torch's class name.
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid")
TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True)
class Pooling:
    """Which vectors are made of the token states; several are put one after the other."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """activation(W x + b) on the pooled vector; W is [out, in]."""

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str


@dataclass(frozen=True)
class Normalize:
    """x / ||x|| on the pooled vector."""


@dataclass(frozen=True)
class Stack:
    """Everything about a model that is neither the encoder nor the tokenizer's vocabulary."""

    pooling: Pooling = Pooling()
    after: tuple[Dense | Normalize, ...] = ()
    max_length: int = 512  # tokens of a text, special tokens included; longer texts are truncated
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=lambda: {"query": "", "document": ""})
    default_prompt_name: str | None = None
    similarity: str = "cosine"
    truncate_dim: int | None = None

    def width(self, hidden_size: int) -> int:
        """The features of a vector before truncate_dim."""
        width = hidden_size * len(self.pooling.modes)
        for step in self.after:
            width = step.weight.shape[0] if isinstance(step, Dense) else width
        return width


def read_stack(folder: Path, max_positions: int, ignore_config: Collection[str] = ()) -> Stack:
    """The stack of a folder; without modules.json: mean pooling, not normalised.

    max_positions is config.json's max_position_embeddings: the length where nothing else says one.
    ignore_config names keys of the files that may be passed over. Raises CheckpointError for a
    module, mode or value that is not understood.
    """
    modules = read_modules(folder)
    transformer = read_transformer(modules[0][1], ignore_config)
    pooling = Pooling()
    after: list[Dense | Normalize] = []
    for kind, path in modules[1:]:
        if kind == "Pooling":
            pooling = read_pooling(path, ignore_config)
        elif kind == "Dense":
            after.append(read_dense(path, ignore_config))
        elif kind == "Normalize":
            check_names_of(optional(path / "config.json"), path / "config.json", ignore_config)
            after.append(Normalize())
        elif kind != "Dropout":  # which does nothing at inference
            raise CheckpointError(
                f"{folder}/modules.json has a module of type {kind}, which is not implemented; "
                "understood are Transformer, Pooling, Dense, Normalize and Dropout"
            )
    return Stack(
        pooling=pooling,
        after=tuple(after),
        max_length=max_length(modules[0][1], transformer, max_positions),
        lower_case=bool(transformer.get("do_lower_case")),
        **read_settings(folder / "config_sentence_transformers.json", ignore_config),
    )


def transformer_folder(folder: Path) -> Path:
    """Where config.json and the weights are: mostly the folder itself, once 0_Transformer."""
    return read_modules(folder)[0][1]


def read_modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module, in order; the first is the Transformer."""
    file = folder / "modules.json"
    if not file.is_file():
        return [("Transformer", folder)]
    listed, modules = read_json(file), []
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise CheckpointError(f"{file} is no list of modules; restore it")
    for module in listed:
        kind, path = str(module.get("type", "")).rsplit(".", 1)[-1], str(module.get("path", ""))
        if module.get("kwargs"):
            raise CheckpointError(f"{file} passes kwargs {module['kwargs']!r}; not understood")
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{file} points outside the folder ({path}); not followed")
        modules.append((kind, folder / path))
    kinds = [kind for kind, _ in modules]
    once = kinds[:2] == ["Transformer", "Pooling"] and kinds.count("Pooling") == 1
    if not once:
        raise CheckpointError(
            f"{file} lists {', '.join(kinds) or 'nothing'}; understood is a Transformer, then "
            "Pooling, then Dense and Normalize modules"
        )
    return modules


def optional(file: Path) -> dict[str, Any]:
    """The object in the file; empty where there is no file."""
    return read_object(file) if file.is_file() else {}


def check_keys(
    raw: Mapping[str, Any], file: Path, known: Collection[str], ignore: Collection[str]
) -> None:
    """Refuse a key that nobody here has read about, unless it says null or false."""
    for key, value in raw.items():
        if key not in known and key not in ignore and value not in (None, False, {}, []):
            raise CheckpointError(
                f"{file} has {key} = {value!r}, which is not understood; if it does not change the "
                f'vectors, pass ignore_config=("{key}",)'
            )


def check_names_of(raw: Mapping[str, Any], file: Path, ignore: Collection[str]) -> None:
    """A module after pooling must read and write the pooled vector."""
    names = ("module_input_name", "module_output_name")
    check_keys({key: raw[key] for key in raw if key not in names}, file, MODULE_KEYS, ignore)
    for key in names:
        if raw.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise CheckpointError(f"{file} has {key} = {raw[key]!r}; not understood")


MODULE_KEYS = frozenset({"in_features", "out_features", "bias", "activation_function"})


def read_transformer(folder: Path, ignore: Collection[str]) -> dict[str, Any]:
    """sentence_bert_config.json, or the first of its old names that is there."""
    for name in TRANSFORMER_FILES:
        if (folder / name).is_file():
            raw = read_object(folder / name)
            break
    else:
        return {}
    settings = {"max_seq_length", "do_lower_case", "transformer_task", "modality_config"}
    check_keys(raw, folder / name, settings | {"module_output_name"}, ignore)
    text = (raw.get("modality_config") or {}).get("text", {})
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
                f"{folder / name} has {key} = {value!r}; only {good!r} is understood"
            )
    return raw


def read_pooling(folder: Path, ignore: Collection[str]) -> Pooling:
    """1_Pooling/config.json; old flags count only where the new pooling_mode is absent."""
    file = folder / "config.json"
    raw = read_object(file)
    known = {"word_embedding_dimension", "embedding_dimension", "pooling_mode", "include_prompt"}
    check_keys(raw, file, known | set(OLD_FLAGS), ignore)
    flagged = [mode for flag, mode in OLD_FLAGS.items() if raw.get(flag)]
    chosen = raw.get("pooling_mode", flagged or "mean")
    modes = (chosen,) if isinstance(chosen, str) else tuple(chosen or [None])
    for mode in modes:
        if mode not in MODES:
            raise CheckpointError(
                f"{file} has the pooling mode {mode!r}; understood are: {', '.join(MODES)}"
            )
    return Pooling(modes, bool(raw.get("include_prompt", True)))


def read_dense(folder: Path, ignore: Collection[str]) -> Dense:
    """config.json and model.safetensors of a Dense module."""
    raw = read_object(folder / "config.json")
    check_names_of(raw, folder / "config.json", ignore)
    name = str(raw.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = name.rsplit(".", 1)[-1]
    if not name.startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{folder}/config.json has activation_function {name!r}; understood are torch.nn's "
            f"{', '.join(ACTIVATIONS)}"
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise CheckpointError(f"{folder} has no model.safetensors; save the model as safetensors")
    with opened(file) as held:
        tensors = {name: held.get_tensor(name).astype(np.float32) for name in held.keys()}  # noqa: SIM118
    shapes: dict[str, tuple[Any, ...]] = {
        "linear.weight": (raw.get("out_features"), raw.get("in_features"))
    }
    if raw.get("bias", True):
        shapes["linear.bias"] = (raw.get("out_features"),)
    if {name: tensor.shape for name, tensor in tensors.items()} != shapes:
        raise CheckpointError(
            f"{file} does not hold what its config.json says ({shapes}); restore it"
        )
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise CheckpointError(f"{file} holds NaN or infinity; fetch it again")
    return Dense(tensors["linear.weight"], tensors.get("linear.bias"), activation)


SETTINGS = frozenset(
    "__version__ prompts default_prompt_name similarity_fn_name truncate_dim model_type".split()
)


def read_settings(file: Path, ignore: Collection[str]) -> dict[str, Any]:
    """Prompts, similarity and truncation of config_sentence_transformers.json."""
    raw = optional(file)
    check_keys(raw, file, SETTINGS, ignore)
    if raw.get("model_type") not in (None, "SentenceTransformer"):
        raise CheckpointError(f"{file} describes a {raw['model_type']}, not a SentenceTransformer")
    similarity = raw.get("similarity_fn_name") or "cosine"
    if similarity not in SIMILARITIES:
        raise CheckpointError(
            f"{file} has similarity_fn_name {similarity!r}; understood: {', '.join(SIMILARITIES)}"
        )
    prompts = {**Stack().prompts, **(raw.get("prompts") or {})}
    name = raw.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise CheckpointError(f"{file} has default_prompt_name {name!r}, but no such prompt")
    return {
        "prompts": {key: text or "" for key, text in prompts.items()},
        "default_prompt_name": name,
        "similarity": similarity,
        "truncate_dim": raw.get("truncate_dim"),
    }


def max_length(folder: Path, transformer: Mapping[str, Any], max_positions: int) -> int:
    """max_seq_length where given; else the smaller of the tokenizer's and the config's length."""
    given = transformer.get("max_seq_length")
    if given is None:
        own = optional(folder / "tokenizer_config.json").get("model_max_length")
        given = min(own, max_positions) if isinstance(own, int | float) else max_positions
    if not isinstance(given, int) or given < 1:
        raise CheckpointError(f"{folder} has the maximum length {given!r}; it must be positive")
    return given
