"""The folder of a MultiVectorEncoder, or of PyLate, -> LateSettings and the weight of its Dense.

Source: sentence-transformers 6.2, MultiVectorEncoder, and what it makes of the folders of PyLate 1.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxbert.checkpoint.colbert import PUNCTUATION, QUERY_LENGTH
from jaxbert.checkpoint.json_file import optional, read_object, typed
from jaxbert.checkpoint.late_settings import (
    DOCUMENT,
    QUERY,
    SIMILARITIES,
    Expansion,
    LateSettings,
    Side,
    checked_length,
)
from jaxbert.checkpoint.sentence_transformers.dense import read_dense
from jaxbert.checkpoint.sentence_transformers.keys import NAMES, check_keys, check_reads
from jaxbert.checkpoint.sentence_transformers.modules_json import MODULES, listed_modules
from jaxbert.checkpoint.sentence_transformers.requirements import check_requirements
from jaxbert.checkpoint.sentence_transformers.settings import SETTINGS_FILE
from jaxbert.checkpoint.sentence_transformers.transformer import (
    EMBEDS,
    max_length,
    read_transformer,
)
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError, shown

TOKENS = "token_embeddings"
NATIVE, PYLATE = "MultiVectorEncoder", "ColBERT"
LENGTHS = (f"{QUERY}_length", f"{DOCUMENT}_length")
PYLATE_DOCUMENT_LENGTH = 180


def module_weight(folder: Path, stored: Checkpoint, ignore: Collection[str]) -> np.ndarray:
    """The weight [width, d] of the one Dense module, which has neither bias nor activation."""
    modules = listed_modules(folder)
    kinds = [kind for kind, _ in modules]
    pylate = model_type(folder) == PYLATE
    further = [] if pylate else ["MultiVectorMask", "Normalize"]
    if kinds[:2] != ["Transformer", "Dense"] or sorted(kinds[2:]) != further:
        raise CheckpointError(
            f"{folder / MODULES} lists {', '.join(kinds)}; understood for late interaction is a "
            f"{', '.join(['Transformer', 'Dense', *further])}"
        )
    for kind, path in modules:
        if kind == "Normalize":
            file = path / "config.json"
            raw = {"module_input_name": "sentence_embedding"} | read_object(file)
            check_keys(raw, file, NAMES, ignore)
            check_reads(raw, file, TOKENS)
    path = modules[1][1]
    dense, d = read_dense(path, ignore, TOKENS), stored.config.hidden_size
    if dense.bias is not None or dense.activation != "Identity":
        raise CheckpointError(
            f"{path} has a bias or the activation {dense.activation}; only a linear projection is "
            "understood for late interaction"
        )
    if dense.weight.shape[1] != d:
        raise CheckpointError(
            f"{path} takes {dense.weight.shape[1]} features, but states have {d}: they are of "
            "different models"
        )
    return dense.weight


def model_type(folder: Path) -> str | None:
    """The class that config_sentence_transformers.json names, if it names one."""
    file = folder / SETTINGS_FILE
    return typed(optional(file), "model_type", str | None, None, file)


def read_multi_vector(folder: Path, stored: Checkpoint, ignore: Collection[str]) -> LateSettings:
    """The settings of a folder with a Dense module; CheckpointError for what is not understood."""
    file = folder / SETTINGS_FILE
    raw, pylate = optional(file), model_type(folder) == PYLATE
    check_requirements(raw, file, ignore)
    further = () if pylate else (*LENGTHS, "query_expansion")
    transformer = read_transformer(stored.folder, ignore, EMBEDS, further)
    most = max_length(stored.folder, transformer, stored.config, ignore)
    given = typed(raw, "prompts", Mapping, {}, file) or {}
    prompts = {key: typed(given, key, str, "", file) for key in given if given[key] is not None}
    name = typed(raw, "default_prompt_name", str | None, None, file)
    if name is not None and name not in prompts:
        raise CheckpointError(f"{file} has default_prompt_name {shown(name)}, but no such prompt")
    common = {
        "prompts": prompts,
        "default_prompt_name": name,
        "lower_case": typed(transformer, "do_lower_case", bool, False, folder),
    }
    if pylate:
        return LateSettings(**pylate_sides(raw, file, stored), **common)
    similarity = typed(raw, "similarity_fn_name", str | None, None, file) or "maxsim"
    if similarity not in SIMILARITIES:
        raise CheckpointError(
            f"{file} has similarity_fn_name {shown(similarity)}; understood: "
            f"{', '.join(SIMILARITIES)}"
        )
    mask = next(path for kind, path in listed_modules(folder) if kind == "MultiVectorMask")
    sides = native_sides(transformer, mask / "config.json", stored, most)
    return LateSettings(similarity=similarity, **sides, **common)


def native_sides(
    transformer: Mapping[str, Any], mask: Path, stored: Checkpoint, most: int
) -> dict[str, Any]:
    """The two sides and the expansion, from the Transformer's file and from the mask's."""
    file = stored.folder
    query, document = (typed(transformer, key, int | None, None, file) or most for key in LENGTHS)
    raw = typed(transformer, "query_expansion", Mapping | None, None, file)
    expansion = None
    if raw is not None:
        check_keys(raw, file, {"strategy", "attend", "token", "length"}, ())
        length = checked_length(file, "length", typed(raw, "length", int, 0, file), stored)
        attended = typed(raw, "attend", bool, False, file)
        expansion = Expansion(length, attended, typed(raw, "token", str | None, None, file))
        strategy = raw.get("strategy")
        if strategy not in ("fixed", "min"):
            raise CheckpointError(
                f"{file} has query_expansion with the strategy {shown(strategy)}; understood are "
                "fixed and min"
            )
        query = length if strategy == "fixed" else max(query, length)
    settings = read_object(mask)
    check_keys(settings, mask, {"skiplist_words", "skiplist_tasks"}, ())
    words = word_list(settings, "skiplist_words", mask, ())
    tasks = settings.get("skiplist_tasks")
    tasks = (
        (tasks,)
        if isinstance(tasks, str)
        else word_list(settings, "skiplist_tasks", mask, (DOCUMENT,))
    )
    if not {*tasks} <= {QUERY, DOCUMENT}:
        raise CheckpointError(f"{mask} has skiplist_tasks {shown(tasks)}, which is not understood")
    lengths = {QUERY: query, DOCUMENT: document}
    sides = {
        task: Side(
            checked_length(file, f"{task}_length", lengths[task], stored),
            skipped=words if task in tasks else (),
        )
        for task in (QUERY, DOCUMENT)
    }
    return {**sides, "expansion": expansion}


def pylate_sides(raw: Mapping[str, Any], file: Path, stored: Checkpoint) -> dict[str, Any]:
    """The two sides and the expansion, from config_sentence_transformers.json."""
    defaults = dict(zip(LENGTHS, (QUERY_LENGTH, PYLATE_DOCUMENT_LENGTH), strict=True))
    query, document = (
        checked_length(file, key, typed(raw, key, int, default, file), stored)
        for key, default in defaults.items()
    )
    markers = {
        task: typed(raw, f"{task}_prefix", str | None, None, file) or None
        for task in (QUERY, DOCUMENT)
    }
    attended = typed(raw, "attend_to_expansion_tokens", bool, False, file)
    expands = typed(raw, "do_query_expansion", bool, True, file)
    words = word_list(raw, "skiplist_words", file, PUNCTUATION)
    return {
        QUERY: Side(query, markers[QUERY]),
        DOCUMENT: Side(document, markers[DOCUMENT], words),
        "expansion": Expansion(query, attended) if expands else None,
    }


def word_list(
    raw: Mapping[str, Any], key: str, file: Path, default: tuple[str, ...]
) -> tuple[str, ...]:
    """A list of words; the default where there is none."""
    words = typed(raw, key, list | None, None, file)
    if words is None:
        return default
    if not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{file} has {key} = {shown(words)}, which are no words; restore it")
    return tuple(words)
