"""ModernBERT.

What differs from BERT: pre-norm, as in T5, with a final norm, and no norm before the attention of
the first layer; norms and projections have no bias; positions are rotary; every third layer (by
global_attn_every_n_layers, from the first on) sees the whole text, the others a window, with
another base of the rotation; the feed-forward is gated, the gate being the first half of Wi x.

ModernBERT: Warner et al. 2024, arXiv:2412.13663, section 2, and transformers' modeling_modernbert.
"""

from functools import partial

import numpy as np

from jaxbert.model.reference.basics import (
    ACTIVATIONS,
    Config,
    Tensor,
    Tensors,
    attention,
    join_heads,
    linear,
    norm,
    split_heads,
    under,
)
from jaxbert.model.reference.positions import rotary

# transformers' defaults, for a config.json that does not say it
DEFAULTS = {
    "norm_eps": 1e-5,
    "hidden_activation": "gelu",
    "global_attn_every_n_layers": 3,
    "local_attention": 128,
}
# The older key of each kind of layer's base of rotation, and transformers' default.
BASES = {
    "full_attention": ("global_rope_theta", 160_000.0),
    "sliding_attention": ("local_rope_theta", 10_000.0),
}


def rotation_base(config: Config, kind: str) -> float:
    """The base for layers of this kind, from rope_parameters or, in older files, a key of its own.

    Source: ModernBertConfig.convert_rope_params_to_dict of transformers 5.
    """
    key, default = BASES[kind]
    own = (config.get("rope_parameters") or {}).get(kind) or {}
    return float(own["rope_theta"] if "rope_theta" in own else config.get(key, default))


def window(length: int, most: int) -> Tensor:
    """bias[t, s] = 0 where |t - s| is at most `most`, else minus infinity."""
    index = np.arange(length)
    return np.where(np.abs(index[:, None] - index[None, :]) <= most, 0.0, -np.inf)


def layer(
    x: Tensor, tensors: Tensors, config: Config, mask: Tensor, bias: Tensor | None, base: float
) -> Tensor:
    """x + attention(norm x), then the same with Wo (act(gate) * value)."""
    eps, heads = config["norm_eps"], config["num_attention_heads"]
    y = norm(x, tensors, "attn_norm", eps) if "attn_norm.weight" in tensors else x
    q, k, v = (
        split_heads(part, heads) for part in np.split(linear(y, tensors, "attn.Wqkv"), 3, axis=-1)
    )
    context = attention(q, k, v, mask, bias, partial(rotary, base=base))
    x = x + linear(join_heads(context), tensors, "attn.Wo")
    y = norm(x, tensors, "mlp_norm", eps)
    gate, value = np.split(linear(y, tensors, "mlp.Wi"), 2, axis=-1)
    return x + linear(ACTIVATIONS[config["hidden_activation"]](gate) * value, tensors, "mlp.Wo")


def modernbert_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and each layer, not normed; no types are used."""
    config = {**DEFAULTS, **config}
    near = window(input_ids.shape[1], config["local_attention"] // 2)
    x = tensors["embeddings.tok_embeddings.weight"][input_ids]
    states = [norm(x, tensors, "embeddings.norm", config["norm_eps"])]
    for i in range(config["num_hidden_layers"]):
        sees_all = i % config["global_attn_every_n_layers"] == 0
        bias = None if sees_all else near
        base = rotation_base(config, "full_attention" if sees_all else "sliding_attention")
        own = under(tensors, f"layers.{i}.")
        states.append(layer(states[-1], own, config, mask, bias, base))
    return states


def modernbert_final_norm(x: Tensor, tensors: Tensors, config: Config) -> Tensor:
    """The states that the encoder gives, from those behind the last layer."""
    return norm(x, tensors, "final_norm", {**DEFAULTS, **config}["norm_eps"])
