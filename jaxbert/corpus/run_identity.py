"""What identifies a run: all that decides about its output, and nothing about time or place."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxbert import __version__
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.sums import sha256
from jaxbert.corpus.files import bytes_sha256
from jaxbert.corpus.output import as_stored
from jaxbert.corpus.processor import processor
from jaxbert.corpus.rows import Reading, Source
from jaxbert.embedder import Embedder
from jaxbert.inference.outputs import Finish
from jaxbert.inference.request import Request
from jaxbert.model.attention import name_of
from jaxbert.model.head import Dense


def describe_model(embedder: Embedder, name: str) -> dict[str, Any]:
    """Which weights these are: a folder is known by its own name and the sums of its files."""
    stored = embedder.stored
    assert stored is not None, "a run begins with a model from a folder"
    parents = stored.folder.resolve().parents
    cached = parents[0].name == "snapshots"
    return {
        "name": Path(name).name if Path(name).is_dir() else name,
        "revision": stored.folder.resolve().name if cached else None,
        "weights_sha256": [sha256(file) for file in stored.files],
        "config_sha256": bytes_sha256(json.dumps(stored.raw, sort_keys=True).encode()),
        "tokenizer_sha256": bytes_sha256(embedder.tokenizer.backend.to_str().encode()),
        "truncation_side": embedder.tokenizer.side,
        "dtype": str(embedder.engine.dtype),
        "attention": name_of(embedder.encoder.attention),
    }


def describe_steps(stack: Stack) -> list[Any]:
    """What is behind the encoder."""
    return [
        {"modes": list(stack.pooling.modes), "include_prompt": stack.pooling.include_prompt},
        *(
            {
                "dense": bytes_sha256(step.weight.tobytes() + bias(step)),
                "activation": step.activation,
            }
            if isinstance(step, Dense)
            else "normalize"
            for step in stack.after
        ),
    ]


def bias(step: Dense) -> bytes:
    """The numbers of a module's bias, if it has one."""
    return b"" if step.bias is None else step.bias.tobytes()


def describe_vectors(embedder: Embedder, finish: Finish, precision: str) -> dict[str, Any]:
    """How a vector comes about, and what it is in the file."""
    probe = as_stored(finish(np.zeros((0, embedder.full_width), np.float32)), precision)
    ranges, steps = finish.ranges, describe_steps(embedder.stack)
    whole = finish.width == embedder.full_width
    return {
        "pooling": steps,
        "normalize": finish.normalize,
        "normalized": finish.normalize or (whole and steps[-1] == "normalize"),
        "dimensions": finish.width,
        "precision": precision,
        "ranges_sha256": None
        if ranges is None
        else bytes_sha256(np.stack([ranges.low, ranges.high]).tobytes()),
        "dtype": str(probe.dtype),
        "width": probe.shape[1],
        "similarity": embedder.similarity_fn_name,
    }


def describe_software() -> dict[str, Any]:
    """The versions that decide about bits, the kind of device, and what matters of a processor."""
    names = ("jax", "jaxlib", "tokenizers", "numpy")
    kind = {"device": jax.local_devices()[0].device_kind, "platform": jax.default_backend()}
    versions = {"jaxbert": __version__} | {name: version(name) for name in names}
    return versions | kind | processor()


def output_metadata(
    embedder: Embedder,
    *,
    name: str,
    request: Request,
    finish: Finish,
    precision: str,
    with_text: bool,
    reading: Reading,
    carried: Mapping[str, str],
) -> dict[str, Any]:
    """What every output says of itself, but for what is known at the end of the input.

    name is that of the model as it was given; carried has the type of each carried column.
    """
    return {
        "model": describe_model(embedder, name),
        "vectors": describe_vectors(embedder, finish, precision),
        "text": {"prompt": request.prefix, "max_length": request.long.most},
        "reading": {
            "kind": reading.kind,
            "text_field": reading.text_field,
            "id_field": reading.id_field,
        },
        "with_text": with_text,
        "carried": [{"name": own, "type": kind} for own, kind in carried.items()],
        "engine": {"name": embedder.engine.kind.name} | embedder.engine.kind.identity(),
        "software": describe_software(),
    }


def run_identity(metadata: Mapping[str, Any], source: Source, rows_per_part: int) -> dict[str, Any]:
    """What must not change while a run goes on; the rows are compared by the sums of its parts."""
    names = [file["name"] for file in source.names()]
    return {**metadata, "input": names, "rows_per_part": rows_per_part}


def carried_types(source: Source) -> dict[str, str]:
    """The type of each carried column: Arrow's where all files are Parquet and agree, else text."""
    types = dict.fromkeys(source.reading.carry, "text")
    if not types or any(file.kind != "parquet" for file in source.files):
        return types
    from jaxbert.corpus.tables import pyarrow

    schemas = []
    for file in source.files:
        with open(file.path, "rb") as stream:  # a name may be no UTF-8
            schemas.append(pyarrow("pyarrow.parquet").read_schema(stream))
    for name in types:
        kinds = {str(schema.field(name).type) for schema in schemas if name in schema.names}
        if len(kinds) == 1:
            types[name] = kinds.pop()
    return types
