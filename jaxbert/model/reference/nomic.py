"""nomic-bert: BERT with rotary positions instead of a table, and a gated feed-forward with silu.

Queries, keys and values come from one matrix, in this order. fc12 is the gate, fc11 the value.

nomic-embed: Nussbaum et al. 2024, arXiv:2402.01613, section 3, and the code published with it.
"""

from functools import partial

import numpy as np

from jaxbert.model.reference.basics import (
    Config,
    Tensor,
    Tensors,
    attention,
    join_heads,
    linear,
    norm,
    silu,
    split_heads,
    under,
)
from jaxbert.model.reference.positions import rotary

# What this file computes; a config.json that says something else describes another model.
UNDERSTOOD = {
    "activation_function": "swiglu",
    "causal": False,
    "parallel_block": False,
    "prenorm": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_weights": True,
    "use_rms_norm": False,
}


# the published code's default, for a config.json that does not say it
DEFAULTS = {"layer_norm_epsilon": 1e-5}


def layer(x: Tensor, tensors: Tensors, config: Config, mask: Tensor) -> Tensor:
    """Attention, residual, norm; fc2 (silu(fc12 x) * fc11 x), residual, norm."""
    eps, heads = config["layer_norm_epsilon"], config["n_head"]
    q, k, v = (split_heads(y, heads) for y in np.split(linear(x, tensors, "attn.Wqkv"), 3, axis=-1))
    context = attention(q, k, v, mask, rotate=partial(rotary, base=config["rotary_emb_base"]))
    x = norm(x + linear(join_heads(context), tensors, "attn.out_proj"), tensors, "norm1", eps)
    gated = silu(linear(x, tensors, "mlp.fc12")) * linear(x, tensors, "mlp.fc11")
    return norm(x + linear(gated, tensors, "mlp.fc2"), tensors, "norm2", eps)


def nomic_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] after the embeddings and after each layer.

    Raises ValueError for a config.json of another model.
    """
    for key, value in UNDERSTOOD.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]!r}; only {value!r} is written down here")
    config = {**DEFAULTS, **config}
    x = tensors["embeddings.word_embeddings.weight"][input_ids]
    x = x + tensors["embeddings.token_type_embeddings.weight"][types]
    states = [norm(x, tensors, "emb_ln", config["layer_norm_epsilon"])]
    for i in range(config["n_layer"]):
        states.append(layer(states[-1], under(tensors, f"encoder.layers.{i}."), config, mask))
    return states
