"""The parts that all families share: norms, activations, projections, attention, the mean.

Attention: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.  LayerNorm: Ba et al. 2016,
arXiv:1607.06450.  RMS norm: Zhang and Sennrich 2019, arXiv:1910.07467.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import erf

Tensor = np.ndarray
Tensors = Mapping[str, np.ndarray]
Config = Mapping[str, Any]
Rotate = Callable[[Tensor], Tensor]


# --- stored tensors ----------------------------------------------------------------------------


def in_float64(tensors: Tensors) -> dict[str, Tensor]:
    """The tensors in float64; a weight in a narrower type is a float64 number too."""
    return {name: np.asarray(value, np.float64) for name, value in tensors.items()}


def under(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with prefix, by the rest of their names."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def renamed(tensors: Tensors, parts: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors by names in which each part that is a key of parts is replaced by its value."""
    result = {}
    for name, value in tensors.items():
        for old, new in parts.items():
            name = name.replace(old, new)
        result[name] = value
    return result


# --- norms, activations, projections -----------------------------------------------------------


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | float, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis, biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean of x^2 + eps) * weight over the last axis: no mean is subtracted, no bias."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * weight


def gelu(x: Tensor) -> Tensor:
    """x Phi(x), the exact form: Phi is the normal distribution function, by erf."""
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of gelu (Hendrycks and Gimpel 2016, section 2)."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element."""
    return np.maximum(x, 0.0)


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x), with the sigmoid as (1 + tanh(x/2)) / 2, which cannot overflow."""
    return x * 0.5 * (1.0 + np.tanh(0.5 * x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    # transformers' other names of the same functions
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_accurate": gelu_tanh,
    "swish": silu,
}


def linear(x: Tensor, tensors: Tensors, name: str) -> Tensor:
    """x W^T + b; W is stored [out, in] and b may be absent."""
    y = x @ tensors[f"{name}.weight"].T
    return y + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else y


def norm(x: Tensor, tensors: Tensors, name: str, eps: float) -> Tensor:
    """layer_norm with the weights stored under name; the bias may be absent."""
    return layer_norm(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias", 0.0), eps)


# --- attention ---------------------------------------------------------------------------------


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[b, t, n h] as [b, n, t, h]: head i has the features from i h on."""
    b, t, width = x.shape
    return x.reshape(b, t, heads, width // heads).transpose(0, 2, 1, 3)


def join_heads(x: Tensor) -> Tensor:
    """[b, n, t, h] as [b, t, n h], the heads one after the other."""
    b, n, t, h = x.shape
    return x.transpose(0, 2, 1, 3).reshape(b, t, n * h)


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """exp(scores) where mask is true, divided by its sum over s; zeros in a row with none."""
    scores = np.where(mask, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total == 0.0, 1.0, total)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    bias: Tensor | None = None,
    rotate: Rotate | None = None,
    divisor: float | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt(h) + bias) v over the keys where mask[b, s] is true; all `b n t h`.

    The bias is added unscaled, after the division. rotate acts on q and on k. divisor stands in
    the place of sqrt(h).
    """
    if rotate is not None:
        q, k = rotate(q), rotate(k)
    scores = np.einsum("bnth,bnsh->bnts", q, k)
    scores = scores / (math.sqrt(q.shape[-1]) if divisor is None else divisor)
    if bias is not None:
        scores = scores + bias
    return np.einsum("bnts,bnsh->bnth", softmax(scores, mask[:, None, None, :]), v)


# --- pooling -----------------------------------------------------------------------------------


def mean_pool(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of x over the tokens where mask is true; zeros for a row without any."""
    weight = np.asarray(mask, np.float64)[..., None]
    return (np.asarray(x, np.float64) * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
