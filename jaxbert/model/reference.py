"""The specification: BERT and JinaBERT in float64 NumPy, to be read beside the papers.

Everything else in this package is measured against this file, and this file is measured against
stored outputs of third-party torch code (tests/golden). It imports nothing of jaxbert, is written
for eyes and not for speed, and takes a checkpoint's tensors by their published names.

BERT: Devlin et al. 2018, arXiv:1810.04805, section 3.
JinaBERT: Guenther et al. 2023, arXiv:2310.19923, section 3 (symmetric ALiBi, gated feed-forward).
ALiBi: Press et al. 2021, arXiv:2108.12409, section 3.  GLU: Shazeer 2020, arXiv:2002.05202.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.special import erf

Tensor = np.ndarray
Tensors = Mapping[str, np.ndarray]
Rotate = Callable[[Tensor], Tensor]


# --- norms, activations, projections -----------------------------------------------------------


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis, biased variance."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


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
    """layer_norm with the weights stored under name."""
    return layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps)


# --- position ----------------------------------------------------------------------------------


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8(i+1)/n) for n = 2^j heads; else those of the power below, then every other of the next.

    Source: the authors' code for head counts that are no power of two, and JinaBERT's remote code.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    between = [2.0 ** (-8.0 * (i + 1) / (2 * power)) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


def alibi(heads: int, length: int) -> Tensor:
    """bias[n, t, s] = -slope[n] |t - s|: symmetric, for an encoder that attends both ways."""
    index = np.arange(length)
    distance = np.abs(index[:, None] - index[None, :])
    return -np.array(alibi_slopes(heads))[:, None, None] * distance


# --- one layer ---------------------------------------------------------------------------------


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
) -> Tensor:
    """softmax(q k^T / sqrt(h) + bias) v over the keys where mask[b, s] is true; all `b n t h`.

    The bias is added unscaled, after the division. rotate acts on q and on k.
    """
    if rotate is not None:
        q, k = rotate(q), rotate(k)
    scores = np.einsum("bnth,bnsh->bnts", q, k) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    return np.einsum("bnts,bnsh->bnth", softmax(scores, mask[:, None, None, :]), v)


def self_attention(
    x: Tensor,
    tensors: Tensors,
    config: Mapping[str, Any],
    mask: Tensor,
    bias: Tensor | None,
    rotate: Rotate | None,
) -> Tensor:
    """Project x to queries, keys and values, attend, and project the joined heads back.

    Where norms of the queries and keys exist, they act on all heads together, before the split.
    """
    b, t, d = x.shape
    n = config["num_attention_heads"]

    def project(name: str, norm_name: str | None) -> Tensor:
        y = linear(x, tensors, f"attention.self.{name}")
        if norm_name is not None and f"attention.self.{norm_name}.weight" in tensors:
            y = norm(y, tensors, f"attention.self.{norm_name}", config["layer_norm_eps"])
        return y.reshape(b, t, n, d // n).transpose(0, 2, 1, 3)

    q, k = project("query", "layer_norm_q"), project("key", "layer_norm_k")
    context = attention(q, k, project("value", None), mask, bias, rotate)
    joined = context.transpose(0, 2, 1, 3).reshape(b, t, d)
    return linear(joined, tensors, "attention.output.dense")


def feed_forward(x: Tensor, tensors: Tensors, config: Mapping[str, Any]) -> Tensor:
    """W2 act(W1 x), or W2 (act(gate) * value) with gate and value the two halves of W1 x.

    JinaBERT stores the gate first (`gated_layers`), its qk-post-norm variant last
    (`up_gated_layer`). A gated layer takes its activation from feed_forward_type, others from
    hidden_act.
    """
    gate_act = relu if config.get("feed_forward_type") == "reglu" else gelu
    act = ACTIVATIONS[config.get("hidden_act", "gelu")]
    if "mlp.gated_layers.weight" in tensors:
        gate, value = np.split(linear(x, tensors, "mlp.gated_layers"), 2, axis=-1)
        return linear(gate_act(gate) * value, tensors, "mlp.wo")
    if "mlp.up_gated_layer.weight" in tensors:
        value, gate = np.split(linear(x, tensors, "mlp.up_gated_layer"), 2, axis=-1)
        return linear(gate_act(gate) * value, tensors, "mlp.down_layer")
    if "mlp.up_layer.weight" in tensors:
        return linear(act(linear(x, tensors, "mlp.up_layer")), tensors, "mlp.down_layer")
    return linear(act(linear(x, tensors, "intermediate.dense")), tensors, "output.dense")


def layer(
    x: Tensor,
    tensors: Tensors,
    config: Mapping[str, Any],
    mask: Tensor,
    bias: Tensor | None,
    rotate: Rotate | None,
) -> Tensor:
    """One post-norm layer: attention, residual, norm; feed-forward, residual, norm.

    The qk-post-norm variant adds x a second time, behind a norm of its own (`layer_norm_1`).
    """
    eps = config["layer_norm_eps"]
    a = self_attention(x, tensors, config, mask, bias, rotate)
    a = norm(a + x, tensors, "attention.output.LayerNorm", eps)
    if "layer_norm_1.weight" in tensors:
        a = norm(x + a, tensors, "layer_norm_1", eps)
    last = next(
        name
        for name in ("layer_norm_2", "mlp.layernorm", "output.LayerNorm")
        if f"{name}.weight" in tensors
    )
    return norm(feed_forward(a, tensors, config) + a, tensors, last, eps)


# --- the encoder -------------------------------------------------------------------------------


def encode(
    tensors: Tensors,
    config: Mapping[str, Any],
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
    bias: Tensor | None = None,
    rotate: Rotate | None = None,
) -> list[Tensor]:
    """The token states [b, t, d] after the embeddings and after each layer.

    tensors: published names, no prefix, any float dtype; config: the contents of config.json.
    bias [n, t, s] and rotate replace what config says about positions in the scores.
    """
    config = {"layer_norm_eps": 1e-12, "position_embedding_type": "absolute", **config}
    tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    input_ids, mask = np.asarray(input_ids), np.asarray(attention_mask).astype(bool)
    types = np.zeros_like(input_ids) if token_type_ids is None else np.asarray(token_type_ids)
    length = input_ids.shape[1]

    x = tensors["embeddings.word_embeddings.weight"][input_ids]
    x = x + tensors["embeddings.token_type_embeddings.weight"][types]
    if config["position_embedding_type"] == "absolute":
        x = x + tensors["embeddings.position_embeddings.weight"][:length]
    if config["position_embedding_type"] == "alibi" and bias is None:
        bias = alibi(config["num_attention_heads"], length)
    states = [norm(x, tensors, "embeddings.LayerNorm", config["layer_norm_eps"])]
    for i in range(config["num_hidden_layers"]):
        prefix = f"encoder.layer.{i}."
        layer_tensors = {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        states.append(layer(states[-1], layer_tensors, config, mask, bias, rotate))
    return states


def mean_pool(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of x over the tokens where mask is true; zeros for a row without any."""
    weight = np.asarray(mask, np.float64)[..., None]
    return (np.asarray(x, np.float64) * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)


# --- heads -------------------------------------------------------------------------------------


def classifier_logits(tensors: Tensors, x: Tensor) -> Tensor:
    """The logits [b, labels] of a classifier, C tanh(W x[0] + b) + c, from the last states x.

    tensors: names without prefix; x [b, t, d] begins with the state of [CLS].
    Source: transformers' BertPooler and BertForSequenceClassification.
    """
    tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    pooled = np.tanh(linear(np.asarray(x, np.float64)[:, 0], tensors, "pooler.dense"))
    return linear(pooled, tensors, "classifier")


def masked_language_logits(tensors: Tensors, config: Mapping[str, Any], x: Tensor) -> Tensor:
    """The logits [b, t, v] of a masked language model from the last states x [b, t, d].

    tensors: names without prefix. The activation is hidden_act, also where layers are gated. Every
    row of the word embeddings is a token, unless the file has a decoder of its own.
    Source: transformers' BertLMPredictionHead.
    """
    tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}
    head = "cls.predictions"
    y = ACTIVATIONS[config.get("hidden_act", "gelu")](linear(x, tensors, f"{head}.transform.dense"))
    y = norm(y, tensors, f"{head}.transform.LayerNorm", config.get("layer_norm_eps", 1e-12))
    table = tensors["embeddings.word_embeddings.weight"]
    return y @ tensors.get(f"{head}.decoder.weight", table).T + tensors[f"{head}.bias"]
