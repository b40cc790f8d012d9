"""Mutations of what a safetensors file says of its tensors, and of the index of several files."""

import json
import struct
from random import Random
from typing import Any

import numpy as np

from tests.attack.spoil import HARMLESS, KNOWN, OTHER, Folder, Mutation, Spoiled, one_of
from tests.attack.tensors import opened

ODD_DTYPES = "BOOL F8_E4M3 F8_E8M0 F4 BF16 F16 F64 I8 U8 I32 U64 C64 F6_E2M3 f32 X".split()
ODD_NAMES = {
    "empty": "",
    "an escape sequence": "\x1b]0;x\x07",
    "NUL": "a\0b",
    "100 kB": "w" * 100_000,
    "a layer more": "encoder.layer.2.output.dense.bias",
    "a layer of many digits": "encoder.layer." + "9" * 5000 + ".output.dense.bias",
    "another wrapper": "roberta.embeddings.LayerNorm.weight",
    "lone surrogate": "\ud800",
}


# --- headers -----------------------------------------------------------------------------------


def edited_header(folder: Folder, random: Random) -> Spoiled | None:
    """A tensor says something else of itself."""
    weights = opened(folder, random)
    if weights is None:
        return None
    header, name = weights.header, random.choice(weights.names)
    own = header[name]
    first, last = own["data_offsets"]
    edits = {
        "no dtype": {"shape": own["shape"], "data_offsets": [first, last]},
        "another dtype": own | {"dtype": random.choice(ODD_DTYPES)},
        "half the width": own | {"dtype": "BF16", "shape": [*own["shape"], 2]},
        "shape turned": own | {"shape": own["shape"][::-1]},
        "flat": own | {"shape": [int(np.prod(own["shape"]))]},
        "an axis more": own | {"shape": [1, *own["shape"]]},
        "no rows": own | {"shape": [0, *own["shape"][1:]], "data_offsets": [first, first]},
        "a negative axis": own | {"shape": [-1, *own["shape"][1:]]},
        "a huge axis": own | {"shape": [2**63, *own["shape"][1:]]},
        "offsets behind the end": own | {"data_offsets": [first, len(weights.data) + 4096]},
        "offsets turned": own | {"data_offsets": [last, first]},
        "offsets shifted": own | {"data_offsets": [first + 4, last + 4]},
        "offsets of 2^63": own | {"data_offsets": [2**63, 2**63 + last - first]},
        "a key more": own | {"strides": [1]},
        "a list": [own],
        "null": None,
    }
    title, header[name] = one_of(random, edits)
    if header[name] == own:
        return None
    weights.write()
    turned = title == "shape turned" and own["shape"] == own["shape"][::-1]
    allowed = HARMLESS if turned else KNOWN
    return Spoiled(f"{folder.title(weights.file)} {name}: {title}", allowed)


def other_name(folder: Folder, random: Random) -> Spoiled | None:
    """A tensor has another name, stands twice, is missing, or has come beside."""
    weights = opened(folder, random)
    if weights is None:
        return None
    header, name = weights.header, random.choice(weights.names)
    title, new = one_of(random, ODD_NAMES)
    how = random.choice(("renamed", "gone", "beside", "twice", "a classifier", "in two spellings"))
    text = ""
    if how == "renamed":
        header[new] = header.pop(name)
    elif how == "gone":
        del header[name]
    elif how == "twice":
        text = f"{json.dumps(header)[:-1]}, {json.dumps(name)}: {json.dumps(header[name])}}}"
    elif how == "in two spellings" and ("LayerNorm.weight" not in name):
        return None
    else:
        more = {"a classifier": "classifier.weight", "beside": new}.get(how, "")
        more = more or name.replace("LayerNorm.weight", "LayerNorm.gamma")
        header[more] = {
            "dtype": "F32",
            "shape": [4],
            "data_offsets": [len(weights.data), len(weights.data) + 16],
        }
        weights.data += np.ones(4, np.float32).tobytes()
    weights.write(text)
    said = f"{how} ({title})" if how in ("renamed", "beside") else how
    return Spoiled(f"{folder.title(weights.file)} {name[:60]} {said}", KNOWN)


def positions(folder: Folder, random: Random) -> Spoiled | None:
    """Stored positions, of dtypes and numbers of every kind."""
    weights = opened(folder, random)
    if weights is None or not any("word_embeddings" in name for name in weights.names):
        return None
    dtype = random.choice(["I64", "I64", *ODD_DTYPES])
    ids = np.arange(16)
    counted = random.random() < 0.5
    ids = ids if counted else ids[::-1]
    raw = ids.astype(np.int64).tobytes() if dtype == "I64" else bytes(range(128))
    name = random.choice(("embeddings.position_ids", "bert.embeddings.position_ids"))
    size = {"BOOL": 16, "U8": 16, "I8": 16, "F16": 32, "BF16": 32, "I32": 64}.get(dtype, 128)
    end = len(weights.data)
    weights.header[name] = {"dtype": dtype, "shape": [1, 16], "data_offsets": [end, end + size]}
    weights.data += raw[:size]
    weights.write()
    right = dtype == "I64" and counted and not name.startswith("bert")
    said = f"{folder.title(weights.file)} with {name} as {dtype}"
    return Spoiled(f"{said}, {'counted' if counted else 'backwards'}", HARMLESS if right else KNOWN)


def framed(folder: Folder, random: Random) -> Spoiled | None:
    """The header's length, or what frames the file, is wrong."""
    weights = opened(folder, random)
    if weights is None:
        return None
    contents = weights.file.read_bytes()
    size = struct.unpack("<Q", contents[:8])[0]
    length = random.choice((0, 1, size - 8, size + 8, 2**31, 2**63, 2**64 - 1, 100_000_001))
    weights.file.write_bytes(struct.pack("<Q", length) + contents[8:])
    return Spoiled(f"{folder.title(weights.file)} says its header has {length} bytes", KNOWN)


def metadata(folder: Folder, random: Random) -> Spoiled | None:
    """What a file says of itself beside its tensors."""
    weights = opened(folder, random)
    if weights is None:
        return None
    made = {
        "absent": None,
        "of torch": {"format": "pt"},
        "large": {"notes": "x" * 300_000},
        "no text": {"format": 5},
        "a list": ["pt"],
        "of another": {"format": "mlx"},
    }
    title, own = one_of(random, made)
    weights.header.pop("__metadata__", None)
    if own is not None:
        weights.header = {"__metadata__": own, **weights.header}
    weights.write()
    good = title in ("absent", "of torch", "large", "of another")
    return Spoiled(
        f"{folder.title(weights.file)} with metadata {title}", HARMLESS if good else KNOWN
    )


def moved(folder: Folder, random: Random) -> Spoiled | None:
    """The same tensors in another order, or two of one shape for each other."""
    weights = opened(folder, random)
    if weights is None:
        return None
    header, names = weights.header, weights.names
    name = random.choice(names)
    same = [other for other in names if other != name and same_form(header, name, other)]
    if same and random.random() < 0.5:
        other = random.choice(same)
        header[name], header[other] = header[other], header[name]
        if weights.numbers(name).tobytes() == weights.numbers(other).tobytes():
            return None
        weights.write()
        return Spoiled(f"{folder.title(weights.file)}: {name} and {other} exchanged", OTHER)
    random.shuffle(names)
    data, held = bytearray(), {}
    for own in names:
        first, last = weights.span(own)
        held[own] = {**header[own], "data_offsets": [len(data), len(data) + last - first]}
        data += weights.data[first:last]
    weights.header, weights.data = held, data
    weights.write()
    return Spoiled(f"{folder.title(weights.file)} in another order", HARMLESS)


def same_form(header: dict[str, Any], one: str, other: str) -> bool:
    """Whether two tensors have one shape and dtype."""
    return all(header[one][key] == header[other][key] for key in ("shape", "dtype"))


# --- several files -----------------------------------------------------------------------------


def edited_index(folder: Folder, random: Random) -> Spoiled | None:
    """The index of several weight files says something else."""
    file = folder.find("model.safetensors.index.json")
    if file is None:
        return None
    index = json.loads(file.read_text())
    where = index["weight_map"]
    name, shards = random.choice(list(where)), sorted(set(where.values()))
    other = next(shard for shard in shards if shard != where[name])
    values = ("model-00003-of-00003.safetensors", "../x", "/etc/passwd", "a\0b", "\ud800", 5, None)
    how = random.choice(("other", "odd", "gone", "more", "one file", "empty", "text", "total"))
    if how == "other":
        where[name] = other
    elif how == "odd":
        where[name] = random.choice((*values, "", ".", "x" * 5000, ["x"], file.name))
    elif how == "gone":
        del where[name]
    elif how == "more":
        where["encoder.layer.9.output.dense.bias"] = other
    elif how == "one file":
        index["weight_map"] = dict.fromkeys(where, other)
    elif how == "total":
        index["metadata"] = {"total_size": -5}
    else:
        index["weight_map"] = {} if how == "empty" else "x"
    file.write_text(json.dumps(index))
    return Spoiled(f"{folder.title(file)}: {how} ({name})", KNOWN)


def same_shards(folder: Folder, random: Random) -> Spoiled | None:
    """One of several weight files has come in the place of the other."""
    shards = [folder.model / name for name in folder.names if "-of-0000" in name]
    if len(shards) < 2:
        return None
    one, two = random.sample(shards, 2)
    one.write_bytes(two.read_bytes())
    return Spoiled(f"{folder.title(one)} is a copy of {two.name}", KNOWN)


HEADERS: list[Mutation] = [edited_header, edited_header, other_name, positions, framed, metadata]
SHARDS: list[Mutation] = [edited_index, edited_index, same_shards, moved]
