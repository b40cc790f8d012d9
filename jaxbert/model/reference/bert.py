"""BERT and JinaBERT, from which the other families differ.

BERT: Devlin et al. 2018, arXiv:1810.04805, section 3.
JinaBERT: Guenther et al. 2023, arXiv:2310.19923, section 3 (symmetric ALiBi, gated feed-forward).
GLU: Shazeer 2020, arXiv:2002.05202.
"""

import numpy as np

from jaxbert.model.reference.basics import (
    ACTIVATIONS,
    Config,
    Rotate,
    Tensor,
    Tensors,
    attention,
    gelu,
    join_heads,
    linear,
    norm,
    relu,
    split_heads,
    under,
)
from jaxbert.model.reference.positions import alibi

# transformers' defaults, for a config.json that does not say it
DEFAULTS = {"layer_norm_eps": 1e-12, "position_embedding_type": "absolute", "hidden_act": "gelu"}


def self_attention(
    x: Tensor,
    tensors: Tensors,
    config: Config,
    mask: Tensor,
    bias: Tensor | None,
    rotate: Rotate | None,
) -> Tensor:
    """Project x to queries, keys and values, attend, and project the joined heads back.

    Where norms of the queries and keys exist, they act on all heads together, before the split.
    """
    n = config["num_attention_heads"]

    def project(name: str, norm_name: str | None) -> Tensor:
        y = linear(x, tensors, f"attention.self.{name}")
        if norm_name is not None and f"attention.self.{norm_name}.weight" in tensors:
            y = norm(y, tensors, f"attention.self.{norm_name}", config["layer_norm_eps"])
        return split_heads(y, n)

    q, k = project("query", "layer_norm_q"), project("key", "layer_norm_k")
    context = attention(q, k, project("value", None), mask, bias, rotate)
    return linear(join_heads(context), tensors, "attention.output.dense")


def feed_forward(x: Tensor, tensors: Tensors, config: Config) -> Tensor:
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
    config: Config,
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


def embeddings(
    tensors: Tensors, config: Config, input_ids: Tensor, types: Tensor | None, positions: Tensor
) -> Tensor:
    """The sum of a token's vector, its type's and its position's, normed.

    types is None where a family has none; positions are used by learned embeddings alone.
    """
    x = tensors["embeddings.word_embeddings.weight"][input_ids]
    if types is not None:
        x = x + tensors["embeddings.token_type_embeddings.weight"][types]
    if config["position_embedding_type"] == "absolute":
        x = x + tensors["embeddings.position_embeddings.weight"][positions]
    return norm(x, tensors, "embeddings.LayerNorm", config["layer_norm_eps"])


def layers(
    x: Tensor,
    tensors: Tensors,
    config: Config,
    mask: Tensor,
    bias: Tensor | None,
    rotate: Rotate | None,
) -> list[Tensor]:
    """The states x, and after each layer."""
    states = [x]
    for i in range(config["num_hidden_layers"]):
        own = under(tensors, f"encoder.layer.{i}.")
        states.append(layer(states[-1], own, config, mask, bias, rotate))
    return states


def bert_states(
    tensors: Tensors,
    config: Config,
    input_ids: Tensor,
    mask: Tensor,
    types: Tensor,
    bias: Tensor | None = None,
    rotate: Rotate | None = None,
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and after each layer."""
    config = {**DEFAULTS, **config}
    length = input_ids.shape[1]
    if config["position_embedding_type"] == "alibi" and bias is None:
        bias = alibi(config["num_attention_heads"], length)
    x = embeddings(tensors, config, input_ids, types, np.arange(length))
    return layers(x, tensors, config, mask, bias, rotate)
