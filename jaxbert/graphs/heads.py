"""The graphs of what stands behind an encoder: pooling, classifiers, vectors of tokens."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxbert.graphs.encoder import INT, activated, known, projected
from jaxbert.graphs.graph import Graph, floats
from jaxbert.model.head import (
    ACTIVATIONS,
    SMALLEST_COUNT,
    SMALLEST_NORM,
    Classifier,
    DenseLayer,
    LabelHead,
    PoolingHead,
    TokenProjection,
    UnitLength,
)

LAST, TOKENS = np.array([-1], INT), np.array([1], INT)


def number(value: float) -> np.ndarray:
    """A float32 constant without axes."""
    return np.array(value, np.float32)


# --- pooling: x [m, u, d], weight [m, u, 1] of ones where a token is pooled, else zeros ----------


def total(graph: Graph, x: str, weight: str) -> str:
    """sum over u of x weight, [m, d]; zero where the weight is zero, even beside NaN."""
    seen = graph.op("Greater", weight, number(0.0))
    terms = graph.op("Where", seen, graph.op("Mul", x, weight), number(0.0))
    return graph.op("ReduceSum", terms, TOKENS, keepdims=0)


def counted(graph: Graph, weight: str) -> str:
    """sum over u of the weight, [m, 1], at least SMALLEST_COUNT."""
    sums = graph.op("ReduceSum", weight, TOKENS, keepdims=0)
    return graph.op("Max", sums, number(SMALLEST_COUNT))


def mean(graph: Graph, x: str, weight: str) -> str:
    """The sum divided by the number of tokens."""
    return graph.op("Div", total(graph, x, weight), counted(graph, weight))


def mean_sqrt_len(graph: Graph, x: str, weight: str) -> str:
    """The sum divided by the root of the number of tokens."""
    return graph.op("Div", total(graph, x, weight), graph.op("Sqrt", counted(graph, weight)))


def ramp(graph: Graph, weight: str) -> str:
    """1, 2, ... along u where the weight is not zero, [m, u, 1]."""
    ones = graph.op("Add", graph.op("Mul", weight, number(0.0)), number(1.0))
    return graph.op("Mul", graph.op("CumSum", ones, np.array(1, INT)), weight)


def weighted_mean(graph: Graph, x: str, weight: str) -> str:
    """The mean with weight p + 1 for the token at index p of the row."""
    return mean(graph, x, ramp(graph, weight))


def maximum(graph: Graph, x: str, weight: str) -> str:
    """The largest value of each feature; zeros for a row without a token."""
    lowest = np.array(np.finfo(np.float32).min)
    top = graph.op("Where", graph.op("Greater", weight, number(0.0)), x, lowest)
    some = graph.op("ReduceMax", weight, TOKENS, keepdims=0)
    top = graph.op("ReduceMax", top, TOKENS, keepdims=0)
    return graph.op("Where", graph.op("Greater", some, number(0.0)), top, number(0.0))


def cls(graph: Graph, x: str, weight: str) -> str:
    """The state of the first token: the only one at which the weights so far sum to one."""
    so_far = graph.op("CumSum", weight, np.array(1, INT))
    first = graph.op("Equal", graph.op("Mul", so_far, weight), number(1.0))
    return total(graph, x, graph.op("Cast", first, to=1))


def last_token(graph: Graph, x: str, weight: str) -> str:
    """The state of the last token: the first from behind."""
    from_behind = graph.op("CumSum", weight, np.array(1, INT), reverse=1)
    last = graph.op("Equal", graph.op("Mul", from_behind, weight), number(1.0))
    return total(graph, x, graph.op("Cast", last, to=1))


POOLINGS: Mapping[str, Callable[[Graph, str, str], str]] = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}


def pooled(graph: Graph, head: PoolingHead, x: str, weight: str) -> str:
    """The vectors [m, width] of a PoolingHead: its modes one after the other, then its modules."""
    known(head, "the head", PoolingHead)
    vectors = [POOLINGS[mode](graph, x, weight) for mode in head.modes]
    y = graph.op("Concat", *vectors, axis=-1) if len(vectors) > 1 else vectors[0]
    for step in head.after:
        known(step, "a module behind the pooling", DenseLayer, UnitLength)
        y = dense(graph, step, y) if isinstance(step, DenseLayer) else unit_length(graph, y)
    return y


# --- modules behind it ---------------------------------------------------------------------------

OPERATORS = {"Tanh": "Tanh", "Identity": "Identity", "ReLU": "Relu", "Sigmoid": "Sigmoid"}


def dense(graph: Graph, step: DenseLayer, y: str) -> str:
    """activation(y W^T + b), [m, out]."""
    y = graph.op("MatMul", y, floats(step.weight).T)
    if step.bias is not None:
        y = graph.op("Add", y, floats(step.bias))
    (name,) = (name for name, own in ACTIVATIONS.items() if own is step.activation)
    if name == "GELU":
        return graph.op("Gelu", y, approximate="none")
    if name == "SiLU":
        return graph.op("Mul", y, graph.op("Sigmoid", y))
    return graph.op(OPERATORS[name], y)


def unit_length(graph: Graph, y: str) -> str:
    """y / max(||y||, 1e-12) over the last axis."""
    squares = graph.op("ReduceSum", graph.op("Mul", y, y), LAST, keepdims=1)
    return graph.op("Div", y, graph.op("Max", graph.op("Sqrt", squares), number(SMALLEST_NORM)))


# --- other heads ---------------------------------------------------------------------------------


def classified(graph: Graph, head: LabelHead, x: str) -> str:
    """The logits [m, labels] of a Classifier, from the state of the first token of each row."""
    known(head, "the head", Classifier)
    own: Any = head
    first = graph.op("Gather", x, np.array(0, INT), axis=1)
    y = activated(graph, own.activation, projected(graph, own.pooler, first, 1))
    return graph.op("Add", graph.op("MatMul", y, floats(own.weight)), floats(own.bias))


def token_vectors(graph: Graph, head: TokenProjection, x: str) -> str:
    """The unit vectors [m, u, width] of a TokenProjection."""
    known(head, "the head", TokenProjection)
    return unit_length(graph, projected(graph, head.linear, x, 1))
