"""A Hugging Face folder <-> (config, weights, record), strict both ways.

Reading iterates the target and consumes the source: nothing stays unfilled, nothing is left over.
"""

import json
import os
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxbert.errors import CheckpointError
from jaxbert.huggingface import config_and_family
from jaxbert.model.config import EncoderConfig
from jaxbert.rules import FAMILIES, PREFIX, UNUSED, Rule, rules, spelled_out
from jaxbert.storage import (
    FLOATS,
    Entry,
    aligned,
    headers,
    read_object,
    readers,
    weight_files,
)

WORD = "embeddings.word_embeddings.weight"


class UnverifiedModelWarning(UserWarning):
    """The arithmetic of this family is inferred: no output of its published code was available."""


@dataclass(frozen=True)
class Checkpoint:
    """An opened folder: what it is, and where its tensors lie; the numbers are read by `fill`.

    entries is by name without prefix, in today's spelling; unused lists those that embeddings do
    not need (pooler, heads, position_ids). Together they are the record that `save` writes back by.
    """

    folder: Path
    raw: Mapping[str, Any]
    config: EncoderConfig
    family: str
    entries: Mapping[str, Entry]
    unused: Mapping[str, Entry]

    @property
    def files(self) -> list[Path]:
        """The weight files, in order."""
        return sorted({entry.file for entry in (*self.entries.values(), *self.unused.values())})

    @cached_property
    def table(self) -> list[Rule]:
        """The rules of this checkpoint, layers written out."""
        chosen = rules(self.family, self.config.feed_forward, self.config.position)
        return [layered for rule in chosen for layered in self.written_out(rule)]

    def written_out(self, rule: Rule) -> list[Rule]:
        """One rule per layer, or the rule itself where it is not about layers."""
        if "{l}" not in rule.name:
            return [rule]
        layers = range(self.config.num_layers)
        return [rule._replace(name=rule.name.format(l=i), layer=i) for i in layers]


# --- opening -----------------------------------------------------------------------------------


def open_folder(
    folder: str | os.PathLike[str], *, ignore_config: Collection[str] = ()
) -> Checkpoint:
    """Read config.json and the headers of the weights, and decide what they are.

    Raises CheckpointError for a damaged file, an unknown tensor, a config value that is not
    understood, or a config and tensors that contradict each other. Warns with
    UnverifiedModelWarning for a family whose arithmetic is inferred.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json, so it is not a model folder")
    raw = read_object(folder / "config.json")
    found: dict[str, Entry] = {}
    for file in weight_files(folder):
        for entry in headers(file):
            if entry.name in found:
                raise CheckpointError(f"{entry.name} is stored twice, in {file} too; restore it")
            found[entry.name] = entry
    prefix = common_prefix(found)
    entries, unused = sort_out(found, prefix)
    config, family = config_and_family(raw, entries, ignore_config)
    check_layers(entries, config.num_layers)
    if not FAMILIES[family].verified:
        warnings.warn(
            f"{folder} is {FAMILIES[family].title}: this arithmetic is inferred from the tensors "
            "and has not been compared with its published code",
            UnverifiedModelWarning,
            stacklevel=3,
        )
    return Checkpoint(folder, raw, config, family, entries, unused)


def common_prefix(found: Collection[str]) -> str:
    """What stands before every name, found from the word embeddings."""
    words = [name for name in found if name == WORD or name.endswith(f".{WORD}")]
    if len(words) != 1:
        many = "no" if not words else "more than one"
        raise CheckpointError(f"the weights have {many} {WORD}, so this is not a BERT checkpoint")
    prefix = words[0].removesuffix(WORD)
    if not PREFIX.fullmatch(prefix):
        raise CheckpointError(
            f"the tensors' prefix {prefix!r} is not understood; save them without"
        )
    return prefix


def check_layers(names: Collection[str], expected: int) -> None:
    """config.json and the tensors' names must count the same layers."""
    layers = {match[1] for name in names if (match := re.match(r"encoder\.layer\.(\d+)\.", name))}
    if layers != set(map(str, range(min(expected, len(layers) + 1)))):
        raise CheckpointError(
            f"config.json says num_hidden_layers = {expected}, but the weights have the layers "
            f"{', '.join(sorted(layers, key=int)) or 'none'}: they are of different models"
        )


def sort_out(found: Mapping[str, Entry], prefix: str) -> tuple[dict[str, Entry], dict[str, Entry]]:
    """(needed, unused) by name without prefix; heads stand beside the encoder, not under it."""
    entries: dict[str, Entry] = {}
    unused: dict[str, Entry] = {}
    outer = re.sub(r"bert\.$", "", prefix)
    for name, entry in found.items():
        inside = name.startswith(prefix)
        plain = spelled_out(name.removeprefix(prefix if inside else outer))
        if UNUSED.fullmatch(plain):
            unused[name] = entry
        elif not inside:
            raise CheckpointError(f"the tensor {name} is not understood; no rule reads it")
        elif plain in entries:
            raise CheckpointError(f"{plain} is stored in two spellings; keep one of them")
        else:
            entries[plain] = entry
    return entries, unused


# --- reading -----------------------------------------------------------------------------------


def fill(stored: Checkpoint, targets: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every target path -> its weight in float32, stacked over layers; each tensor used once.

    targets are the paths and shapes of the encoder's weights. Raises CheckpointError for a tensor
    that is missing, left over, misshapen, of another dtype, or not finite, and for a path that no
    rule fills.
    """
    table = stored.table
    unfilled = set(targets) - {rule.path for rule in table}
    if unfilled:
        raise CheckpointError(
            f"no tensor fills {', '.join(sorted(unfilled))}; pass its own weights"
        )
    check_names(stored, table, targets)
    weights = {path: aligned(shape) for path, shape in targets.items()}
    with readers(stored.files) as read:
        for rule in table:
            target = rule.own_part(weights[rule.path])
            target[...] = rule.unpack(read(stored.entries[rule.name]), target.shape)
        for name, entry in stored.unused.items():
            if name.endswith("position_ids"):
                check_position_ids(name, read(entry))
    return weights


def check_names(
    stored: Checkpoint, table: list[Rule], targets: Mapping[str, tuple[int, ...]]
) -> None:
    """Names, shapes and dtypes, before a single number is read."""
    wanted = {rule.name: rule for rule in table}
    missing = sorted(set(wanted) - set(stored.entries))
    extra = sorted(set(stored.entries) - set(wanted))
    title = FAMILIES[stored.family].title
    if missing:
        raise CheckpointError(
            f"{stored.folder} lacks {listing(missing)}, which {title} with this config.json needs; "
            "fetch the weights again"
        )
    if extra:
        raise CheckpointError(
            f"{stored.folder} has {listing(extra)}, which {title} with this config.json has no use "
            "for: config.json and weights are of different models"
        )
    for name, rule in wanted.items():
        entry = stored.entries[name]
        shape = targets[rule.path][0 if rule.layer is None else 1 :]
        expected = rule.published_shape(shape)
        if entry.shape != expected:
            raise CheckpointError(
                f"{entry.name} has shape {entry.shape}, but config.json implies {expected}"
            )
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.name} is stored as {entry.dtype}; understood are {', '.join(FLOATS)}"
            )


def listing(names: list[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def check_position_ids(name: str, ids: np.ndarray) -> None:
    """Stored position_ids must count 0, 1, 2 ...: that is what they are taken for."""
    if not np.array_equal(ids.ravel(), np.arange(ids.size, dtype=ids.dtype)):
        raise CheckpointError(f"{name} does not count from 0; such positions are not understood")


def tensors(stored: Checkpoint) -> dict[str, np.ndarray]:
    """The needed tensors by published name without prefix, as stored: what reference.py takes."""
    with readers(stored.files) as read:
        return {name: read(entry) for name, entry in stored.entries.items()}


# --- writing -----------------------------------------------------------------------------------


def save(
    stored: Checkpoint, weights: Mapping[str, jax.Array | np.ndarray], folder: str | Path
) -> None:
    """Write the weights back under the names, dtypes and files that they came with.

    Unchanged float32 weights give the same tensors bit for bit; the unused ones are copied from the
    opened folder. Raises CheckpointError for weights of a narrower dtype than the file's.
    """
    shards: dict[str, dict[str, np.ndarray]] = {file.name: {} for file in stored.files}
    for rule in stored.table:
        entry, weight = stored.entries[rule.name], np.asarray(weights[rule.path])
        if weight.dtype != np.float32 and weight.dtype.name != FLOATS[entry.dtype]:
            raise CheckpointError(
                f"{rule.path} is {weight.dtype.name} and {entry.name} was {FLOATS[entry.dtype]}; "
                "load with dtype float32 to save without loss"
            )
        own = rule.own_part(weight)
        packed = np.ascontiguousarray(rule.pack(own).astype(np.dtype(FLOATS[entry.dtype])))
        shards[entry.file.name][entry.name] = packed
    carried = sorted({entry.file for entry in stored.unused.values()})
    with readers(carried) as read:
        for name, entry in stored.unused.items():
            shards[entry.file.name][name] = read(entry)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(stored.raw, indent=2) + "\n", encoding="utf-8")
    for name, shard in shards.items():
        # Beside the file and then in its place: it may be the one that is being read.
        save_file(shard, folder / f"{name}.partial", metadata={"format": "pt"})
        (folder / f"{name}.partial").replace(folder / name)
    index = folder / "model.safetensors.index.json"
    several = len(shards) > 1 or "model.safetensors" not in shards
    if several:
        write_index(index, shards)
    others = [folder / "model.safetensors", *folder.glob("model-*-of-*.safetensors")]
    for file in others if several else [*others, index]:
        if file.name not in shards:
            file.unlink(missing_ok=True)  # of another model, and it would be read first


def write_index(file: Path, shards: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """The list of which tensor lies in which shard."""
    size = sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
    where = {name: shard for shard, held in shards.items() for name in sorted(held)}
    index = {"metadata": {"total_size": size}, "weight_map": where}
    file.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
