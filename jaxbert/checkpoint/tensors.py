"""A Hugging Face folder <-> (config, weights, record), strict both ways.

Reading iterates the target and consumes the source: nothing stays unfilled, nothing is left over.
"""

import json
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxbert.checkpoint.config_keys import refuse_other_file
from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import read_object
from jaxbert.checkpoint.model_types.model_type import said
from jaxbert.checkpoint.model_types.table import model_type_of
from jaxbert.checkpoint.tensor_file import (
    FLOATS,
    INTEGERS,
    Entry,
    aligned,
    check_numbers,
    headers,
    readers,
    weight_files,
)
from jaxbert.checkpoint.tensor_names.families import FAMILIES
from jaxbert.checkpoint.tensor_names.rule import Rule
from jaxbert.checkpoint.tensor_names.spelling import check_layers, common_prefix, listing, sort_out
from jaxbert.errors import CheckpointError, warn_caller
from jaxbert.model.config import EncoderConfig

log = logging.getLogger(__name__)

# Where it stands, transformers loads an adapter on top of the weights.
ADAPTER = "adapter_config.json"


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
    not_used: tuple[str, ...] = ()  # keys of config.json that were taken and change nothing
    zeros: bool = False  # whether weights may have runs of zeros, as those of a pruned model

    @property
    def files(self) -> list[Path]:
        """The weight files, in order."""
        return sorted({entry.file for entry in (*self.entries.values(), *self.unused.values())})

    @cached_property
    def table(self) -> list[Rule]:
        """The rules of this checkpoint, layers written out."""
        chosen = model_type_of(self.raw).rules(self.config, self.family, self.entries)
        return [layered for rule in chosen for layered in self.written_out(rule)]

    def written_out(self, rule: Rule) -> list[Rule]:
        """One rule per layer, or the rule itself where it is not about layers."""
        if "{l}" not in rule.name:
            return [rule]
        layers = range(rule.first_layer, self.config.num_layers)
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
    if not is_there(folder / "config.json"):
        raise CheckpointError(f"{folder} has no config.json, so it is not a model folder")
    if is_there(folder / ADAPTER) and ADAPTER not in ignore_config:
        raise CheckpointError(
            f"{folder} has an {ADAPTER}, so its vectors are those of the weights and an adapter; "
            "merge the adapter into the weights (merge_and_unload) and save them"
        )
    raw = read_object(folder / "config.json")
    refuse_other_file(raw)
    kind = model_type_of(raw)
    found: dict[str, Entry] = {}
    for file in weight_files(folder):
        for entry in headers(file):
            if entry.name in found:
                raise CheckpointError(f"{entry.name} is stored twice, in {file} too; restore it")
            found[entry.name] = entry
    prefix = common_prefix(found, kind.words, kind.base, kind.title)
    entries, unused = sort_out(found, prefix, kind.base, kind.not_needed)
    config, family = kind.file.read(raw, entries, ignore_config)
    check_layers(entries, config.num_layers, kind.layers, kind.layers_key)
    unread = said(raw, kind.file.not_used(raw, entries))
    if unread:
        log.info("config.json of %s has keys that change nothing: %s", folder, ", ".join(unread))
    if not FAMILIES[family].verified:
        warn_caller(
            f"{folder} is {FAMILIES[family].title}: this arithmetic is inferred from the tensors "
            "and has not been compared with its published code",
            UnverifiedModelWarning,
        )
    zeros = "zero_weights" in ignore_config
    stored = Checkpoint(folder, raw, config, family, entries, unused, unread, zeros)
    check_sizes(stored)
    return stored


def check_sizes(stored: Checkpoint) -> None:
    """The sizes in config.json must be those of the tensors, before anything is made of them."""
    axes = stored.config.sizes | {"t": stored.config.position_rows}
    for rule in stored.table:
        if rule.name in stored.entries:
            letters = rule.pattern.split(" -> ")[1].split()
            shape = tuple(axes[letter] for letter in letters)
            check_shape(stored.entries[rule.name], rule.published_shape(shape))


def check_shape(entry: Entry, expected: tuple[int, ...]) -> None:
    """CheckpointError for a tensor of another shape."""
    if entry.shape != expected:
        raise CheckpointError(
            f"{entry.name} has shape {entry.shape}, but config.json implies {expected}"
        )


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
    filled: dict[str, str] = {}
    with readers(stored.files, stored.zeros) as read:
        for rule in table:
            target = rule.own_part(weights[rule.path])
            own = rule.unpack(read(stored.entries[rule.name]), target.shape)
            if rule.layer is None and filled.setdefault(rule.path, rule.name) != rule.name:
                check_same(target, own, filled[rule.path], rule.name)
            if rule.layer == rule.first_layer:
                weights[rule.path][: rule.first_layer] = 1.0  # never read
            target[...] = own
        for name, entry in stored.unused.items():
            if name.endswith("position_ids"):
                check_position_ids(name, entry, read)
    return weights


def check_same(first: np.ndarray, second: np.ndarray, name: str, other: str) -> None:
    """CheckpointError for two names of one weight whose numbers differ."""
    if not np.array_equal(first, second.astype(first.dtype)):
        raise CheckpointError(
            f"{name} and {other} are one weight in this model, but differ; remove the one that it "
            "was not trained with"
        )


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
        check_shape(entry, rule.published_shape(rule.own_shape(targets[rule.path])))
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.name} is stored as {entry.dtype}; understood are {', '.join(FLOATS)}"
            )


def check_position_ids(name: str, entry: Entry, read: Callable[[Entry], np.ndarray]) -> None:
    """Stored position_ids must count 0, 1, 2 ...: that is what they are taken for."""
    if entry.dtype not in INTEGERS:
        raise CheckpointError(f"{name} is stored as {entry.dtype}; positions are integers")
    ids = read(entry)
    if not np.array_equal(ids.ravel(), np.arange(ids.size)):
        raise CheckpointError(f"{name} does not count from 0; such positions are not understood")


def read_tensors(stored: Checkpoint) -> dict[str, np.ndarray]:
    """The needed tensors by published name without prefix, as stored: what the reference takes."""
    with readers(stored.files, stored.zeros) as read:
        return {name: read(entry) for name, entry in stored.entries.items()}


# --- writing -----------------------------------------------------------------------------------


def save(
    stored: Checkpoint, weights: Mapping[str, jax.Array | np.ndarray], folder: str | Path
) -> None:
    """Write the weights back under the names, dtypes and files that they came with.

    Unchanged float32 weights give the same tensors bit for bit, changed ones stay float32 where the
    file's dtype would round them; the unused tensors are copied from the opened folder. folder is
    new or empty. Raises CheckpointError for weights of a narrower dtype than the file's, and for
    those that could not be read back.
    """
    shards: dict[str, dict[str, np.ndarray]] = {file.name: {} for file in stored.files}
    for name, rules in by_name(stored.table).items():
        entry = stored.entries[name]
        for rule in rules:
            check_keeps(rule.path, np.asarray(weights[rule.path]).dtype, entry)
        parts = [rule.pack(rule.own_part(np.asarray(weights[rule.path]))) for rule in rules]
        exact = np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
        check_numbers(exact, entry.name)
        with np.errstate(over="ignore"):
            packed = exact.astype(np.dtype(FLOATS[entry.dtype]))
        # Weights that were trained since may have digits that a narrow dtype has no room for.
        kept = np.array_equal(packed.astype(np.float32), exact.astype(np.float32))
        shards[entry.file.name][entry.name] = packed if kept else exact
    carried = sorted({entry.file for entry in stored.unused.values()})
    with readers(carried, zeros=True) as read:
        for name, entry in stored.unused.items():
            shards[entry.file.name][name] = read(entry)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(stored.raw, indent=2) + "\n", encoding="utf-8")
    for name, shard in shards.items():
        save_file(shard, folder / name, metadata={"format": "pt"})
    if len(shards) > 1 or "model.safetensors" not in shards:
        write_index(folder / "model.safetensors.index.json", shards)


def by_name(table: Sequence[Rule]) -> dict[str, list[Rule]]:
    """The rules of each tensor, in the order of its parts."""
    found: dict[str, list[Rule]] = {}
    for rule in sorted(table, key=lambda rule: rule.part):
        found.setdefault(rule.name, []).append(rule)
    return found


def check_keeps(path: str, dtype: np.dtype[Any], entry: Entry) -> None:
    """CheckpointError for a weight of a narrower dtype than its tensor had."""
    if dtype != np.float32 and dtype.name != FLOATS[entry.dtype]:
        raise CheckpointError(
            f"{path} is {dtype.name} and {entry.name} was {FLOATS[entry.dtype]}; load with dtype "
            "float32 to save without loss"
        )


def write_index(file: Path, shards: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """The list of which tensor lies in which shard."""
    size = sum(tensor.nbytes for shard in shards.values() for tensor in shard.values())
    where = {name: shard for shard, held in shards.items() for name in sorted(held)}
    index = {"metadata": {"total_size": size}, "weight_map": where}
    file.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
