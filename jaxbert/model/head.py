"""From token states to one vector: sentence-transformers' six pooling modes, Dense, Normalize.

Sums run in float32 whatever the dtype of the states is.
Source: sentence-transformers 6.2, Pooling and Normalize modules.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.lax import Precision

from jaxbert.model.activations import Activation, tanh
from jaxbert.model.axes import Hidden, Mask, Pooled, Sizes
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import LayerNorm, Projection

# The smallest divisor: a row without a token is divided by this and stays zero.
SMALLEST_COUNT = 1e-9
SMALLEST_NORM = 1e-12


def weighted_sum(x: Hidden, weight: jax.Array) -> Pooled:
    """sum over t of x[b, t, d] weight[b, t]; zero where the weight is zero, even beside NaN."""
    terms = jnp.where(weight[..., None] != 0.0, x.astype(jnp.float32) * weight[..., None], 0.0)
    return terms.sum(axis=1)


def count(weight: jax.Array) -> jax.Array:
    """sum over t of weight[b, t], at least SMALLEST_COUNT."""
    return jnp.maximum(weight.sum(axis=1), SMALLEST_COUNT)[:, None]


def mean(x: Hidden, mask: Mask) -> Pooled:
    """sum of x over the tokens where mask is true, divided by their number."""
    weight = mask.astype(jnp.float32)
    return weighted_sum(x, weight) / count(weight)


def mean_sqrt_len(x: Hidden, mask: Mask) -> Pooled:
    """sum of x over the tokens where mask is true, divided by the root of their number."""
    weight = mask.astype(jnp.float32)
    return weighted_sum(x, weight) / jnp.sqrt(count(weight))


def weighted_mean(x: Hidden, mask: Mask) -> Pooled:
    """The mean with weight p + 1 for the token at index p of the row."""
    ramp = jnp.arange(1, x.shape[1] + 1, dtype=jnp.float32)[None, :]
    weight = ramp * mask.astype(jnp.float32)
    return weighted_sum(x, weight) / count(weight)


def maximum(x: Hidden, mask: Mask) -> Pooled:
    """The largest value of each feature over the tokens where mask is true; zeros without any."""
    top = jnp.where(mask[..., None], x.astype(jnp.float32), -jnp.inf).max(axis=1)
    return jnp.where(mask.any(axis=1, keepdims=True), top, 0.0)


def pick(x: Hidden, mask: Mask, index: jax.Array) -> Pooled:
    """x[b, index[b]] in float32; zeros for a row without a token."""
    row = jnp.take_along_axis(x, index[:, None, None], axis=1, mode="clip")[:, 0]
    return jnp.where(mask.any(axis=1, keepdims=True), row.astype(jnp.float32), 0.0)


def cls(x: Hidden, mask: Mask) -> Pooled:
    """The state of the first token where mask is true."""
    return pick(x, mask, jnp.argmax(mask, axis=1))


def last_token(x: Hidden, mask: Mask) -> Pooled:
    """The state of the last token where mask is true."""
    return pick(x, mask, mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1))


POOLINGS: Mapping[str, Callable[[Hidden, Mask], Pooled]] = {
    "cls": cls,
    "max": maximum,
    "mean": mean,
    "mean_sqrt_len_tokens": mean_sqrt_len,
    "weightedmean": weighted_mean,
    "lasttoken": last_token,
}


def pool(x: Hidden, mask: Mask, modes: tuple[str, ...]) -> jax.Array:
    """The vectors of all modes, one after the other: [b, d * len(modes)] in float32."""
    return jnp.concatenate([POOLINGS[mode](x, mask) for mode in modes], axis=-1)


def normalize(x: jax.Array) -> jax.Array:
    """x / max(||x||, 1e-12) over the last axis; a zero vector stays zero."""
    norm = jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True))
    return x / jnp.maximum(norm, SMALLEST_NORM)


# --- the modules after an encoder -----------------------------------------------------------------


@dataclass(frozen=True)
class Pooling:
    """The pooling modes, names of POOLINGS, whose vectors are concatenated."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


@dataclass(frozen=True)
class Dense:
    """activation(W x + b) on the pooled vector; W is [out, in], activation a key of ACTIVATIONS."""

    weight: np.ndarray
    bias: np.ndarray | None
    activation: str


@dataclass(frozen=True)
class Normalize:
    """x / ||x|| on the pooled vector."""


ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "Tanh": jnp.tanh,
    "Identity": lambda x: x,
    "ReLU": jax.nn.relu,
    "GELU": lambda x: jax.nn.gelu(x, approximate=False),
    "SiLU": jax.nn.silu,
    "Sigmoid": jax.nn.sigmoid,
}


class PoolingHead(nnx.Module):
    """Token states [b, t, d] -> vectors [b, width]: pooling, then Dense and Normalize modules."""

    def __init__(self, pooling: Pooling, after: Sequence[Dense | Normalize] = ()) -> None:
        """after holds the steps in order; weights of Dense modules are put on the device."""
        self.modes = pooling.modes
        self.after = nnx.List([module(step) for step in after])

    @jax.named_scope("pooling")
    def __call__(self, x: Hidden, mask: Mask) -> jax.Array:
        """The vectors [b, width] in float32, whatever the dtype of x."""
        y = pool(x, mask, self.modes)
        for step in self.after:
            y = step(y)
        return y


class DenseLayer(nnx.Module):
    """activation(x W^T + b), at full float32 precision."""

    def __init__(self, step: Dense) -> None:
        """Put the weights of a step on the device."""
        self.weight = nnx.Param(jnp.asarray(step.weight))
        self.bias = None if step.bias is None else nnx.Param(jnp.asarray(step.bias))
        self.activation = ACTIVATIONS[step.activation]

    def __call__(self, x: jax.Array) -> jax.Array:
        """activation(x W^T + b), from [b, in] to [b, out]."""
        y = jnp.einsum("bi,oi->bo", x, self.weight[...], precision=Precision.HIGHEST)
        return self.activation(y if self.bias is None else y + self.bias[...][None, :])


class UnitLength(nnx.Module):
    """`normalize` as a module without weights."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """The vectors [b, d] divided by their lengths."""
        return normalize(x)


def module(step: Dense | Normalize) -> nnx.Module:
    """The module that computes a Dense or Normalize step."""
    return DenseLayer(step) if isinstance(step, Dense) else UnitLength()


# --- heads with answers of their own ------------------------------------------------------------


class LabelHead(nnx.Module):
    """The logits of labels from the states of a text: the base of what CrossEncoder takes.

    bias has one number per label.
    """

    bias: nnx.Param[jax.Array]

    def __call__(self, x: Hidden, mask: Mask) -> jax.Array:
        """The logits [b, labels] in float32 of states [b, t, d], which count where mask is true."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(x, mask)")


class Classifier(LabelHead):
    """C act(W x[0] + b) + c: the logits of a text, or of a pair, from its first token's state.

    Source: transformers' BertPooler and BertForSequenceClassification, without dropout, where act
    is tanh; it is relu in DistilBertForSequenceClassification.
    """

    def __init__(
        self,
        sizes: Sizes,
        labels: int,
        *,
        rngs: nnx.Rngs,
        std: float,
        activation: Activation = tanh,
    ) -> None:
        """Draw the pooler [d, d] and the classifier [d, labels]."""
        axes = {**sizes, "e": sizes["d"]}
        self.activation = activation
        self.pooler = Projection("btd,de->bte", axes, rngs=rngs, std=std)
        shape = (sizes["d"], labels)
        self.weight = nnx.Param(std * jax.random.normal(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((labels,), jnp.float32))

    @jax.named_scope("classifier")
    def __call__(self, x: Hidden, mask: Mask) -> jax.Array:
        """The logits [b, labels] in float32 of rows that begin with [CLS]; mask is not read."""
        pooled = self.activation(self.pooler(x[:, :1].astype(jnp.float32)))[:, 0]
        return label_logits(pooled, self.weight[...], self.bias[...])


def label_logits(pooled: Pooled, weight: jax.Array, bias: jax.Array) -> jax.Array:
    """pooled W + b, [b, labels] in float32."""
    # Not a matrix product: with one label its bits would depend on the row's index in a batch.
    terms = pooled[:, :, None] * weight.astype(jnp.float32)[None]
    return terms.sum(axis=1) + bias.astype(jnp.float32)[None]


class MaskedLanguageHead(nnx.Module):
    """E norm(act(W x + b)) + c: the logits of every token of the vocabulary, at every position.

    E is the table of word embeddings, unless the model has a decoder of its own.
    Source: transformers' BertLMPredictionHead (arXiv:1810.04805, section 3.1).
    """

    def __init__(
        self, config: EncoderConfig, activation: Activation, *, rngs: nnx.Rngs, tied: bool
    ) -> None:
        """Draw the transform; tied says that there is no decoder but the word embeddings."""
        sizes, std = config.sizes, config.initializer_range
        axes = {**sizes, "e": sizes["d"]}
        self.activation = activation
        self.transform = Projection("btd,de->bte", axes, rngs=rngs, std=std)
        self.norm = LayerNorm(sizes, config.layer_norm_eps)
        self.bias = nnx.Param(jnp.zeros((sizes["v"],), jnp.float32))
        table = None if tied else jnp.zeros((sizes["v"], sizes["d"]), jnp.float32)
        self.decoder = None if table is None else nnx.Param(table)

    @jax.named_scope("masked_language_head")
    def __call__(self, x: Hidden, word: jax.Array) -> jax.Array:
        """The logits [b, t, v] in float32; word [v, d] are the encoder's word embeddings."""
        state = self.norm(self.activation(self.transform(x.astype(jnp.float32))))
        table = word if self.decoder is None else self.decoder[...]
        logits = jnp.einsum(
            "btd,vd->btv",
            state,
            table.astype(jnp.float32),
            precision=Precision.HIGHEST,
            preferred_element_type=jnp.float32,
        )
        return logits + self.bias[...].astype(jnp.float32)[None, None]


class TokenProjection(nnx.Module):
    """W x / ||W x||: a unit vector of every token, for late interaction; W has no bias.

    Source: Khattab and Zaharia, arXiv:2004.12832, section 3.2.
    """

    def __init__(self, sizes: Sizes, width: int, *, rngs: nnx.Rngs, std: float) -> None:
        """Draw the projection [d, width]."""
        axes = {**sizes, "w": width}
        self.linear = Projection("btd,dw->btw", axes, rngs=rngs, std=std, use_bias=False)

    @jax.named_scope("token_projection")
    def __call__(self, x: Hidden) -> jax.Array:
        """The unit vectors [b, t, width] in float32, whatever the dtype of x."""
        return normalize(self.linear(x.astype(jnp.float32)))
