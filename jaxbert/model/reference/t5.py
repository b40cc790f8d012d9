"""The encoders of T5, T5 v1.1, Flan-T5 and mT5.

What differs from BERT: each half of a block norms what it reads and adds to what it read
(pre-norm), so that the states themselves are normed only once, behind the last block; the norm is
RMS; no projection has a bias; q k^T is not divided by sqrt(h); a number per head and bucket of
offsets, from the table of the first block, is added to the scores of every block; there are no
embeddings of positions or types.

T5: Raffel et al. 2019, arXiv:1910.10683, section 2.1.  Gated: Shazeer 2020, arXiv:2002.05202.
"""

from collections.abc import Callable

from jaxbert.model.reference.basics import (
    ACTIVATIONS,
    Config,
    Tensor,
    Tensors,
    attention,
    join_heads,
    linear,
    rms_norm,
    split_heads,
    under,
)
from jaxbert.model.reference.positions import relative_bias

# transformers' defaults, for a config.json that does not say it
DEFAULTS = {
    "layer_norm_epsilon": 1e-6,
    "relative_attention_max_distance": 128,
}
PROJECTIONS = {"t5": "relu", "mt5": "gated-gelu"}
TABLE = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def activation(config: Config) -> Callable[[Tensor], Tensor]:
    """The function that feed_forward_proj names behind "gated-", or dense_act_fn where it is given.

    "gated-gelu" means gelu_new, the tanh form; "gelu" alone is the exact one.
    """
    words = config.get("feed_forward_proj", PROJECTIONS[config.get("model_type", "t5")])
    name = "gelu_new" if words == "gated-gelu" else words.removeprefix("gated-")
    return ACTIVATIONS[config.get("dense_act_fn") or name]


def self_attention(
    x: Tensor, tensors: Tensors, config: Config, mask: Tensor, bias: Tensor
) -> Tensor:
    """softmax(q k^T + bias) v, projected back; heads may be wider or narrower than d / n."""
    q, k, v = (split_heads(linear(x, tensors, name), config["num_heads"]) for name in "qkv")
    return linear(join_heads(attention(q, k, v, mask, bias, divisor=1.0)), tensors, "o")


def feed_forward(x: Tensor, tensors: Tensors, config: Config) -> Tensor:
    """wo act(wi x), or wo (act(wi_0 x) * wi_1 x) where the block is gated: wi_0 is the gate."""
    act = activation(config)
    if "wi_0.weight" in tensors:
        return linear(act(linear(x, tensors, "wi_0")) * linear(x, tensors, "wi_1"), tensors, "wo")
    return linear(act(linear(x, tensors, "wi")), tensors, "wo")


def block(x: Tensor, tensors: Tensors, config: Config, mask: Tensor, bias: Tensor) -> Tensor:
    """x + attention(norm x), then the same with the feed-forward."""
    eps = config["layer_norm_epsilon"]
    y = rms_norm(x, tensors["layer.0.layer_norm.weight"], eps)
    x = x + self_attention(y, under(tensors, "layer.0.SelfAttention."), config, mask, bias)
    y = rms_norm(x, tensors["layer.1.layer_norm.weight"], eps)
    return x + feed_forward(y, under(tensors, "layer.1.DenseReluDense."), config)


def t5_states(
    tensors: Tensors, config: Config, input_ids: Tensor, mask: Tensor, types: Tensor
) -> list[Tensor]:
    """The states [b, t, d] before the first block and after each, not normed; no types are used."""
    config = {**DEFAULTS, **config}
    # One matrix, of which a file may hold either name or both.
    words = "shared.weight" if "shared.weight" in tensors else "encoder.embed_tokens.weight"
    bias = relative_bias(
        tensors[TABLE], input_ids.shape[1], config["relative_attention_max_distance"]
    )
    states = [tensors[words][input_ids]]
    for i in range(config["num_layers"]):
        states.append(block(states[-1], under(tensors, f"encoder.block.{i}."), config, mask, bias))
    return states


def t5_final_norm(x: Tensor, tensors: Tensors, config: Config) -> Tensor:
    """The states that the encoder gives, from those behind the last block."""
    eps = {**DEFAULTS, **config}["layer_norm_epsilon"]
    return rms_norm(x, tensors["encoder.final_layer_norm.weight"], eps)
