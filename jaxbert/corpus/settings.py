"""What a run is: everything that decides about its output, and nothing about time or place."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxbert import __version__
from jaxbert.corpus.rows import Source
from jaxbert.embedder import Embedder
from jaxbert.modules import Dense
from jaxbert.outputs import Finish
from jaxbert.request import Request
from jaxbert.stack import Stack
from jaxbert.storage import sha256

PRECISIONS = ("float32", "float16", "int8", "uint8", "binary", "ubinary")


@dataclass(frozen=True)
class Wanted:
    """The command's options that decide about the output, beside model and input."""

    precision: str
    with_text: bool
    rows_per_part: int
    on_bad_row: str


def model_of(embedder: Embedder, name: str) -> dict[str, Any]:
    """Which weights these are: a folder is known by its own name and the sums of its files."""
    stored = embedder.stored
    assert stored is not None, "a run begins with a model from a folder"
    parents = stored.folder.resolve().parents
    cached = parents[0].name == "snapshots"
    return {
        "name": Path(name).name if Path(name).is_dir() else name,
        "revision": stored.folder.resolve().name if cached else None,
        "weights_sha256": [sha256(file) for file in stored.files],
        "tokenizer_sha256": digest(embedder.tokenizer.backend.to_str().encode()),
        "dtype": str(embedder.encoder.embeddings.word[...].dtype),
    }


def steps_of(stack: Stack) -> list[Any]:
    """What is behind the encoder."""
    return [
        {"modes": list(stack.pooling.modes), "include_prompt": stack.pooling.include_prompt},
        *(
            {"dense": digest(step.weight.tobytes()), "activation": step.activation}
            if isinstance(step, Dense)
            else "normalize"
            for step in stack.after
        ),
    ]


def digest(contents: bytes) -> str:
    """sha256 in hexadecimal digits."""
    return hashlib.sha256(contents).hexdigest()


def vectors_of(embedder: Embedder, finish: Finish, precision: str) -> dict[str, Any]:
    """How a vector comes about, and what it is in the file."""
    probe = in_file(finish(np.zeros((0, embedder.full_width), np.float32)), precision)
    ranges = finish.ranges
    return {
        "pooling": steps_of(embedder.stack),
        "normalized": finish.normalize or "normalize" in steps_of(embedder.stack),
        "dimensions": finish.width,
        "precision": precision,
        "ranges_sha256": None
        if ranges is None
        else digest(np.stack([ranges.low, ranges.high]).tobytes()),
        "dtype": str(probe.dtype),
        "width": probe.shape[1],
        "similarity": embedder.similarity_fn_name,
    }


def in_file(vectors: np.ndarray, precision: str) -> np.ndarray:
    """The vectors in the file's numbers: half precision is float32 until here."""
    return vectors.astype(np.float16) if precision == "float16" else vectors


def software() -> dict[str, str]:
    """The versions that decide about bits, and the kind of device."""
    names = ("jax", "jaxlib", "tokenizers", "numpy")
    kind = {"device": jax.local_devices()[0].device_kind, "platform": jax.default_backend()}
    return {"jaxbert": __version__} | {name: version(name) for name in names} | kind


def metadata(
    embedder: Embedder,
    name: str,
    request: Request,
    finish: Finish,
    wanted: Wanted,
    carried: Mapping[str, str],
) -> dict[str, Any]:
    """What every output says of itself; `id_type` is added when the first row is read."""
    return {
        "model": model_of(embedder, name),
        "vectors": vectors_of(embedder, finish, wanted.precision),
        "text": {"prompt": request.prefix, "max_length": request.long.most},
        "with_text": wanted.with_text,
        "carried": [{"name": own, "type": kind} for own, kind in carried.items()],
        "software": software(),
    }


def settings(about: Mapping[str, Any], source: Source, wanted: Wanted) -> dict[str, Any]:
    """What must not change while a run goes on: the metadata, the input, how it is cut and read."""
    reading = source.reading
    return {
        **about,
        "input": {
            "files": source.names(),
            "kind": reading.kind,
            "text_field": reading.text_field,
            "id_field": reading.id_field,
        },
        "rows_per_part": wanted.rows_per_part,
        "on_bad_row": wanted.on_bad_row,
    }


def carried_types(source: Source) -> dict[str, str]:
    """The type of each carried column: Arrow's where all files are Parquet and agree, else text."""
    types = dict.fromkeys(source.reading.carry, "text")
    if not types or any(file.kind != "parquet" for file in source.files):
        return types
    from jaxbert.corpus.tables import pyarrow

    schemas = [pyarrow("pyarrow.parquet").read_schema(file.path) for file in source.files]
    for name in types:
        kinds = {str(schema.field(name).type) for schema in schemas}
        if len(kinds) == 1:
            types[name] = kinds.pop()
    return types
