"""Which family of checkpoints a folder is, on which config.json and the tensors must agree.

model_type is never a reason to accept: jina-embeddings-v2 says "bert" although it is JinaBERT.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any

from jaxbert.checkpoint.json_file import typed
from jaxbert.errors import CheckpointError

# Remote code that we know, by the repository that auto_map names.
CODE = {
    "jina-bert-v2-qk-post-norm": "jinabert-qk-post-norm",
    "jina-bert-v2-qk-devlin-norm-1e-2": "jinabert-qk-norm",
    "jina-bert-implementation": "jinabert",
}


def family_of(names: Collection[str]) -> str:
    """The family whose tensors these are, by those that no other family has."""
    first = "encoder.layer.0."
    if {f"{first}mlp.up_gated_layer.weight", f"{first}mlp.up_layer.weight"} & set(names):
        return "jinabert-qk-post-norm"
    if f"{first}attention.self.layer_norm_q.weight" in names:
        return "jinabert-qk-norm"
    return "jinabert" if f"{first}mlp.gated_layers.weight" in names else "bert"


def code_family(target: str) -> str | None:
    """The family of "owner/repository--file.Class"; None for a copy of JinaBERT under another name.

    Of a copy the tensors decide. Anything else is code that nobody here has read.
    """
    repository, _, code = target.rpartition("--")
    if not re.fullmatch(r"[\w/]*\.?JinaBert\w+", code):
        raise CheckpointError(
            f"auto_map in config.json names code that is not understood ({target}); if the model "
            'is a plain BERT or JinaBERT, pass ignore_config=("auto_map",)'
        )
    return CODE.get(repository.split("/")[-1])


def named_code(raw: Mapping[str, Any], ignore: Collection[str]) -> str | None:
    """The family of the remote code that auto_map names; None without one."""
    if "auto_map" in ignore:
        return None
    auto_map = typed(raw, "auto_map", Mapping, None, "config.json") or {}
    targets = {key: str(target) for key, target in auto_map.items() if key.startswith("Auto")}
    families = [code_family(target) for key, target in targets.items() if key != "AutoTokenizer"]
    found = {family for family in families if family is not None}
    if len(found) > 1:
        raise CheckpointError(f"auto_map in config.json names code of {', '.join(sorted(found))}")
    return found.pop() if found else None


def agreed_family(
    raw: Mapping[str, Any],
    names: Collection[str],
    position: str,
    feed_forward: str,
    ignore: Collection[str],
) -> str:
    """The family that config and tensors agree on."""
    found = family_of(names)
    gated = any(name.endswith((".gated_layers.weight", ".up_gated_layer.weight")) for name in names)
    if gated != (feed_forward == "glu"):
        kind = raw.get("feed_forward_type", "original")
        raise CheckpointError(
            f"config.json says feed_forward_type {kind!r}, but the tensors are those of a "
            f"{'gated' if gated else 'plain'} feed-forward: config.json and weights are of "
            "different models"
        )
    if found == "bert" and position == "alibi":
        found = "jinabert"
    named = named_code(raw, ignore)
    if named is not None and named != found:
        raise CheckpointError(
            f"auto_map in config.json names the code of {named}, but the tensors are those of "
            f"{found}: config.json and weights are of different models"
        )
    return found
