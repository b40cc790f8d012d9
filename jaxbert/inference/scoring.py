"""Pairs of texts and their scores: what is a pair, and what an activation makes of logits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxbert.arguments import choice, plain_text
from jaxbert.errors import InputError, InputTypeError, shown

Pair = tuple[str, str]
Activation = Callable[[np.ndarray], np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), in float32."""
    return np.asarray(0.5 * (np.tanh(0.5 * x.astype(np.float64)) + 1.0), np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    """e^x over its sum along the last axis, in float32."""
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float32)


ACTIVATIONS: Mapping[str, Activation] = {
    "Identity": lambda x: x,
    "Sigmoid": sigmoid,
    "Tanh": lambda x: np.tanh(x),
}


def named_activation(value: Any) -> Activation:
    """The function for a name, for one of torch's modules of that name, or the function itself."""
    kind = type(value)
    if isinstance(value, str):
        return ACTIVATIONS[choice(value, "activation_fn", ACTIVATIONS)]
    if kind.__module__.startswith("torch.nn.") and kind.__name__ in ACTIVATIONS:
        return ACTIVATIONS[kind.__name__]
    if not callable(value) or kind.__module__.startswith("torch."):
        raise InputTypeError(
            f"activation_fn is {shown(value)}; pass one of {', '.join(ACTIVATIONS)}, or a function "
            "of an array of logits [n, labels]"
        )
    return value


def activated(scores: np.ndarray, activate: Activation) -> np.ndarray:
    """activate(scores), which must be numbers in the same shape [n, labels]."""
    try:
        result = np.asarray(activate(scores))
    except Exception as error:  # whatever a caller's function raises
        raise InputTypeError(
            f"activation_fn failed on logits {list(scores.shape)} ({error}); pass a function of an "
            "array"
        ) from error
    if result.shape != scores.shape or result.dtype.kind != "f":
        raise InputError(
            f"activation_fn gave {result.dtype} {list(result.shape)} for logits "
            f"{list(scores.shape)}; it must give floats of the same shape"
        )
    return result.astype(np.float32)


def is_pair(inputs: Any) -> bool:
    """Whether this is one pair of texts, and not a list of pairs."""
    listed = isinstance(inputs, list | tuple) or (
        isinstance(inputs, np.ndarray) and inputs.ndim == 1
    )
    return listed and len(inputs) > 0 and isinstance(inputs[0], str)


def checked_pairs(inputs: Any) -> list[Pair]:
    """The pairs as tuples of plain str; what cannot be a list of pairs is refused."""
    if isinstance(inputs, str | bytes | Mapping | set | frozenset):
        raise InputTypeError(f"inputs is a {type(inputs).__name__}; pass a list of pairs of texts")
    try:
        given = list(inputs)
    except TypeError as error:
        raise InputTypeError(
            f"inputs is a {type(inputs).__name__}; pass a list of pairs of texts"
        ) from error
    return [checked_pair(i, pair) for i, pair in enumerate(given)]


def checked_pair(i: int, pair: Any) -> Pair:
    """Pair i as a tuple of plain str. Raises InputTypeError, and TextError for invalid Unicode."""
    listed = isinstance(pair, Sequence) or (isinstance(pair, np.ndarray) and pair.ndim == 1)
    if isinstance(pair, str | bytes) or not listed or len(pair) != 2:
        raise InputTypeError(f"pair {i} is {shown(pair)}; pass two texts, (query, document)")
    return plain_text(i, pair[0]), plain_text(i, pair[1])


def check_order(labels: Sequence[str]) -> None:
    """Raise InputError unless a model of these labels gives the one score that ranks documents."""
    if len(labels) != 1:
        raise InputError(
            f"the model gives {len(labels)} scores ({', '.join(labels)}), by which documents have "
            "no order; use predict"
        )
