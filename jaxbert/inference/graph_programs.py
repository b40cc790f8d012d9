"""The functions of forward.py as graphs, and the arrays of a batch as these take them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxbert.graphs.encoder import INT, Tokens, no_graph, states
from jaxbert.graphs.graph import Graph
from jaxbert.graphs.heads import classified, pooled, token_vectors
from jaxbert.inference import forward
from jaxbert.inference.batches import BatchArrays, narrow
from jaxbert.model.transformer import Transformer

# The inputs of a graph, and their axes: b rows of t tokens that hold m texts of u tokens at most.
INPUTS: Mapping[str, tuple[Any, list[str]]] = {
    "ids": (np.int32, ["b", "t"]),
    "types": (np.int32, ["type rows", "type tokens"]),
    "positions": (np.int32, ["position rows", "t"]),
    "queries": (np.int32, ["b", "query tokens"]),
    "keys": (np.int32, ["b", "t"]),
    "token_index": (np.int32, ["m", "u"]),
    "skipped": (np.int32, ["m"]),
}
OUTPUT = "result"
# A graph of x [m, u, d], the weight [m, u, 1] of tokens to be read, and what is fixed.
Output = Callable[..., str]
OUTPUTS: Mapping[Callable[..., Any], Output] = {
    forward.vectors: lambda graph, x, weight, head: pooled(graph, head, x, weight),
    forward.token_states: lambda graph, x, weight: x,
    forward.logits: lambda graph, x, weight, head: classified(graph, head, x),
    forward.token_vectors: lambda graph, x, weight, head: token_vectors(graph, head, x),
    forward.expanded_vectors: lambda graph, x, weight, head: token_vectors(graph, head, x),
}
# Axes of what they give.
AXES = {forward.vectors: 2, forward.logits: 2}


def program_graph(function: Callable[..., Any], encoder: Transformer, *fixed: Any) -> bytes:
    """The ONNX file of function(encoder, *fixed, batch, ...); NoGraphError where there is none."""
    if function not in OUTPUTS:
        name = getattr(function, "__name__", type(function).__name__)
        raise no_graph(f"{name} is a function of your own")
    graph = Graph()
    x = states(graph, encoder, Tokens("ids", "types", "positions", "queries", "keys"))
    rows, weight = by_text(graph, x, encoder.config.hidden_size)
    found = OUTPUTS[function](graph, rows, weight, *fixed)
    shape = [f"result {axis}" for axis in range(AXES.get(function, 3))]
    return graph.model(INPUTS, {OUTPUT: (found, shape)})


def by_text(graph: Graph, x: str, width: int) -> tuple[str, str]:
    """States [b, t, d] -> a row per text [m, u, d], and ones where tokens are read [m, u, 1].

    As forward.rows_by_text, but that rows beyond the end of a text have states of other tokens.
    """
    flat = graph.op("Reshape", x, np.array([-1, width], INT))
    there = graph.op("GreaterOrEqual", "token_index", np.zeros((), np.int32))
    index = graph.op("Max", "token_index", np.zeros((), np.int32))
    numbers = graph.op("Shape", "token_index", start=1, end=2)
    of_token = graph.op(
        "Range",
        np.zeros((), INT),
        graph.op("Squeeze", numbers, np.zeros(1, INT)),
        np.ones((), INT),
    )
    skipped = graph.op("Unsqueeze", graph.op("Cast", "skipped", to=7), np.array([-1], INT))  # int64
    behind = graph.op("GreaterOrEqual", of_token, skipped)
    read = graph.op("Cast", graph.op("And", there, behind), to=1)  # to float32
    weight = graph.op("Unsqueeze", read, np.array([-1], INT))
    return graph.op("Gather", flat, index, axis=0), weight


def arguments(function: Callable[..., Any], batch: BatchArrays, skipped: Any = 0) -> dict[str, Any]:
    """The inputs of a graph for the arrays of a batch, by name; not every graph has all.

    skipped is a number for all texts, or [m].
    """
    keys, types = batch.segments, batch.types
    if function is forward.expanded_vectors:
        assert types is not None, "texts without a row that says which tokens are not attended"
        keys, types = np.where(types == 1, -keys, keys), None
    alone = batch.token_index is None and (keys >= 0).all()
    return {
        "ids": batch.ids,
        "types": np.zeros((1, 1), np.int32) if types is None else types,
        "positions": batch.positions,
        # One text in a row: all its tokens read the same keys, and the mask has one row for them.
        "queries": np.ones((len(keys), 1), np.int32) if alone else np.abs(keys),
        "keys": keys,
        "token_index": own_index(keys) if batch.token_index is None else narrow(batch.token_index),
        "skipped": np.full(batch.text_axes, skipped, np.int32),
    }


def own_index(segments: np.ndarray) -> np.ndarray:
    """token_index [b, t] of rows with one text each: the row's own tokens, -1 beyond its end."""
    index = np.arange(segments.size, dtype=np.int32).reshape(segments.shape)
    return np.where(segments != 0, index, np.int32(-1))
