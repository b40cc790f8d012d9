"""config_sentence_transformers.json: prompts, similarity and the truncation of vectors.

Source: sentence-transformers 6.2.
"""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from jaxbert.checkpoint.json_file import optional, typed, write
from jaxbert.checkpoint.sentence_transformers.keys import unread
from jaxbert.checkpoint.sentence_transformers.requirements import check_requirements
from jaxbert.errors import CheckpointError, shown

log = logging.getLogger(__name__)

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
# The prompts that every model has, whatever its file says.
PROMPTS = {"query": "", "document": ""}
SETTINGS_FILE = "config_sentence_transformers.json"
KEYS = frozenset(
    "__version__ prompts default_prompt_name similarity_fn_name truncate_dim model_type".split()
)


def read_settings(file: Path, ignore: Collection[str]) -> dict[str, Any]:
    """Prompts, similarity and truncation of config_sentence_transformers.json.

    Other keys sentence-transformers passes over too, so they have not changed published vectors.
    Raises RequirementError for a folder that is for other versions, CheckpointError for the rest.
    """
    raw = optional(file)
    if {"repository", "commit", "files"} <= raw.keys():
        raise CheckpointError(
            f"{file} holds what a SOURCE.json of convert/from_hub.py holds; fetch the folder again"
        )
    check_requirements(raw, file, ignore)
    others = unread(raw, {*KEYS, *ignore})
    if others:
        log.info("%s has keys that change nothing: %s", file, shown(others))
    if raw.get("model_type") not in (None, "SentenceTransformer"):
        raise CheckpointError(
            f"{file} describes a {shown(raw['model_type'])}, not a SentenceTransformer"
        )
    similarity = typed(raw, "similarity_fn_name", str | None, "cosine", file) or "cosine"
    if similarity not in SIMILARITIES:
        raise CheckpointError(
            f"{file} has similarity_fn_name {shown(similarity)}; understood: "
            f"{', '.join(SIMILARITIES)}"
        )
    given = typed(raw, "prompts", Mapping, {}, file)
    prompts = PROMPTS | {key: typed(given, key, str, "", file) for key in given}
    name = typed(raw, "default_prompt_name", str | None, None, file)
    if name is not None and name not in prompts:
        raise CheckpointError(f"{file} has default_prompt_name {shown(name)}, but no such prompt")
    return {
        "prompts": prompts,
        "default_prompt_name": name,
        "similarity": similarity,
        "truncate_dim": typed(raw, "truncate_dim", int | None, None, file),
        "not_used": tuple(f"{shown(key)[1:-1]} = {shown(raw[key])}" for key in others),
    }


def write_settings(
    file: Path,
    prompts: Mapping[str, str],
    default_prompt_name: str | None,
    similarity: str,
    truncate_dim: int | None,
) -> None:
    """Write the file; truncate_dim, which not every version knows, only where there is one."""
    described = {
        "prompts": prompts,
        "default_prompt_name": default_prompt_name,
        "similarity_fn_name": similarity,
    }
    width = {} if truncate_dim is None else {"truncate_dim": truncate_dim}
    write(file, described | width)
