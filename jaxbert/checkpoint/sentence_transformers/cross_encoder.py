"""What a folder says of a cross-encoder beside its tensors: activation, length, labels, prompts.

Source: sentence-transformers 6.2, CrossEncoder, and the places where older versions kept the
activation.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import optional, typed, write
from jaxbert.checkpoint.sentence_transformers.modules_json import MODULES, listed_modules
from jaxbert.checkpoint.sentence_transformers.requirements import check_requirements
from jaxbert.checkpoint.sentence_transformers.settings import SETTINGS_FILE
from jaxbert.checkpoint.sentence_transformers.transformer import (
    TRANSFORMER_FILES,
    max_length,
    read_transformer,
)
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, shown

# The activations of torch that published cross-encoders name, and where torch has them.
ACTIVATIONS = {"Identity": "linear", "Sigmoid": "activation", "Tanh": "activation"}
# The class of the one module, as sentence-transformers 5.4 and later name it.
TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
KEY = "activation_fn"
OLD_KEY = "sbert_ce_default_activation_function"
# What the Transformer of a cross-encoder says that it is and gives.
TASK = {
    "transformer_task": "sequence-classification",
    "module_output_name": "scores",
    "method": "forward",
    "method_output_name": "logits",
}


@dataclass(frozen=True)
class CrossEncoderSettings:
    """Everything about a cross-encoder that is neither a weight nor the tokenizer's vocabulary."""

    labels: tuple[str, ...]  # the names of the outputs
    max_length: int = 512  # tokens of a pair, special tokens included
    activation: str | None = None  # None: Sigmoid for one label, else Identity
    prompts: dict[str, str] = field(default_factory=dict)  # put before the first text
    default_prompt_name: str | None = None
    lower_case: bool = False  # texts are lower-cased before they are tokenised

    @property
    def activation_name(self) -> str:
        """The activation that makes scores of logits, where a caller names none."""
        return self.activation or ("Sigmoid" if len(self.labels) == 1 else "Identity")


def read_cross_encoder(
    folder: Path, stored: Checkpoint, ignore: Collection[str], labels: int
) -> CrossEncoderSettings:
    """The settings of a folder whose classifier has so many rows.

    Raises CheckpointError for an activation or a module that is not understood, and for names of
    labels that are not as many as the rows.
    """
    inner = stored.folder
    kinds = [kind for kind, _ in listed_modules(folder)]
    if kinds != ["Transformer"]:
        raise CheckpointError(
            f"{folder / MODULES} lists {', '.join(kinds)}, as that of an embedder does, but the "
            "weights have a classifier; remove modules.json or the classifier"
        )
    file = folder / SETTINGS_FILE
    raw = optional(file)
    check_requirements(raw, file, ignore)
    if raw.get("model_type") not in (None, "CrossEncoder"):
        raise CheckpointError(f"{file} describes a {shown(raw['model_type'])}, not a CrossEncoder")
    given = typed(raw, "prompts", Mapping, {}, file) or {}
    prompts = {key: typed(given, key, str, "", file) for key in given}
    name = typed(raw, "default_prompt_name", str | None, None, file)
    if name is not None and name not in prompts:
        raise CheckpointError(f"{file} has default_prompt_name {shown(name)}, but no such prompt")
    transformer = read_transformer(inner, ignore, TASK) if is_there(folder / MODULES) else {}
    return CrossEncoderSettings(
        labels=label_names(stored, labels),
        max_length=max_length(inner, transformer, stored.config, ignore),
        activation=None if KEY in ignore else activation(raw, file, stored),
        prompts=prompts,
        default_prompt_name=name,
        lower_case=typed(transformer, "do_lower_case", bool, False, inner),
    )


def activation(raw: Mapping[str, Any], file: Path, stored: Checkpoint) -> str | None:
    """The name of the activation, from the newest of the three places that says one."""
    config = stored.folder / "config.json"
    block = typed(stored.raw, "sentence_transformers", Mapping, {}, config) or {}
    places = ((raw, KEY, file), (block, KEY, config), (stored.raw, OLD_KEY, config))
    for where, key, path in places:
        dotted = typed(where, key, str | None, None, path)
        if dotted is not None:
            kind = dotted.rsplit(".", 1)[-1]
            if not dotted.startswith("torch.nn.") or kind not in ACTIVATIONS:
                raise CheckpointError(
                    f"{path} has {key} = {shown(dotted)}; understood are torch.nn's "
                    f'{", ".join(ACTIVATIONS)}, or pass ignore_config=("{KEY}",) for the default'
                )
            return kind
    return None


def label_names(stored: Checkpoint, labels: int) -> tuple[str, ...]:
    """The names in id2label, which must be as many as the classifier's rows; else LABEL_0 ..."""
    config = stored.folder / "config.json"
    named = typed(stored.raw, "id2label", Mapping | None, None, config)
    number = typed(stored.raw, "num_labels", int | None, None, config)
    for count, key in ((None if named is None else len(named), "id2label"), (number, "num_labels")):
        if count is not None and count != labels:
            raise CheckpointError(
                f"{config} has {key} for {count} labels, but classifier.weight has {labels} rows: "
                "they are of different models"
            )
    if named is None:
        return tuple(f"LABEL_{i}" for i in range(labels))
    names = [named.get(str(i)) for i in range(labels)]
    if not all(isinstance(name, str) for name in names):
        raise CheckpointError(
            f"{config} has id2label = {shown(named)}, whose keys are not 0 to {labels - 1}; "
            "restore it"
        )
    return tuple(map(str, names))


# --- writing -------------------------------------------------------------------------------------


def dotted_name(activation: str) -> str:
    """The name of an activation as the files have it."""
    return f"torch.nn.modules.{ACTIVATIONS[activation]}.{activation}"


def with_activation(raw: Mapping[str, Any], settings: CrossEncoderSettings) -> dict[str, Any]:
    """config.json in which older places for the activation, where there are any, do not differ."""
    name = settings.activation_name
    changed, block = dict(raw), raw.get("sentence_transformers")
    if isinstance(block, Mapping) and other(block.get(KEY), name):
        changed["sentence_transformers"] = {**block, KEY: dotted_name(name)}
    if other(raw.get(OLD_KEY), name):
        changed[OLD_KEY] = dotted_name(name)
    return changed


def other(dotted: Any, name: str) -> bool:
    """Whether a value is there and names another activation."""
    return dotted is not None and str(dotted).rsplit(".", 1)[-1] != name


def write_cross_encoder(folder: Path, settings: CrossEncoderSettings) -> None:
    """Write modules.json and the two files of settings; labels are in config.json."""
    write(folder / MODULES, [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER}])
    method = {key: TASK[key] for key in ("method", "method_output_name")}
    write(
        folder / TRANSFORMER_FILES[0],
        {
            "transformer_task": TASK["transformer_task"],
            "modality_config": {"text": method},
            "module_output_name": TASK["module_output_name"],
            "max_seq_length": settings.max_length,
            "do_lower_case": settings.lower_case,
        },
    )
    write(
        folder / SETTINGS_FILE,
        {
            "model_type": "CrossEncoder",
            KEY: dotted_name(settings.activation_name),
            "prompts": settings.prompts,
            "default_prompt_name": settings.default_prompt_name,
        },
    )
