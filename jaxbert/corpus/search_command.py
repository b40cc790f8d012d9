"""`jaxbert search`: the rows of a run's output that are most like a query."""

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxbert.arguments import integer
from jaxbert.corpus.files import bytes_sha256
from jaxbert.corpus.finished import Finished
from jaxbert.corpus.run_identity import describe_model, describe_steps
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError, printable
from jaxbert.inference.quantise import Ranges
from jaxbert.process import interrupts, streams
from jaxbert.search.host import HostSearch
from jaxbert.search.searching import Search, search_for
from jaxbert.search.stored import Bits, Bytes, Floats

# What a query's model must have in common with that of the run; dtype and attention may differ.
SAME = ("weights_sha256", "config_sha256", "tokenizer_sha256")


def search(options: argparse.Namespace, model: dict[str, Any]) -> int:
    """Print score, id and text of the best rows, the best first; the exit status.

    model has the arguments of Embedder.from_pretrained; without a name, the model is the one that
    the run's record names.
    """
    k = integer(options.top_k, "--top-k", 1)
    output = Finished(options.output)
    k = min(k, max(1, len(output)))
    about = output.metadata["vectors"]
    stored = read_as(about, options.ranges)
    embedder = opened(output, model)
    query = embedder.encode_query(
        options.query,
        options.prompt_name,
        options.prompt,
        truncate_dim=about["dimensions"],
        normalize_embeddings=about["normalize"],
    )
    interrupts.check()
    search: HostSearch | Search | None = None
    filled = 0
    for piece in output.pieces():
        rows = stored(piece)
        if search is None:
            kind = rows.comparison or about["similarity"]
            search = search_for(rows.queries(query[None]), kind, k)
            filled = rows.filled(query[None])
        search.look(rows.piece(0, len(rows)))
        interrupts.check()
    if search is None:
        return 0
    (scores,), (numbers,) = search.result()
    found = output.rows(numbers.tolist())
    for score, number in zip(scores, numbers.tolist(), strict=True):
        row = found[number]
        text = f"\t{printable(row['text'])}" if "text" in row else ""
        streams.answer(f"{score - filled:.6f}\t{printable(str(row['id']))}{text}")
    return 0


def opened(output: Finished, model: Mapping[str, Any]) -> Embedder:
    """The model of the run. Raises InputError where the one that is found is another."""
    told = output.metadata["model"]
    name = model["name"] or told["name"]
    revision = model["revision"] or (None if model["name"] else told["revision"])
    embedder = Embedder.from_pretrained(**{**model, "name": name, "revision": revision})
    interrupts.check()
    own = describe_model(embedder, os.fspath(name))
    differ = [key for key in SAME if own[key] != told[key]]
    if describe_steps(embedder.stack) != output.metadata["vectors"]["pooling"]:
        differ.append("pooling")
    if differ:
        raise InputError(
            f"{name} is not the model that made {output.path}, which was {told['name']}: "
            f"{', '.join(differ)} differ; name that one with --model"
        )
    return embedder


def read_as(about: Mapping[str, Any], ranges: str | None) -> Callable[[np.ndarray], Floats]:
    """What the vectors of a run mean. Raises InputError without the ranges of int8 and uint8."""
    if about["precision"] in ("binary", "ubinary"):
        return Bits
    if about["precision"] not in ("int8", "uint8"):
        return Floats
    if ranges is None:
        raise InputError(
            f"the run wrote {about['precision']}; pass the ranges that it was given, with --ranges"
        )
    own = Ranges.load(ranges)
    if bytes_sha256(np.stack([own.low, own.high]).tobytes()) != about["ranges_sha256"]:
        raise InputError(f"{ranges} are not the ranges that the run was given; name those")
    return lambda piece: Bytes(piece, own)
