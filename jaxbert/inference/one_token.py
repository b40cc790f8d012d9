"""The last state of one token in each row, for heads that read no other, such as classifiers.

The queries, the feed-forward and most of the attention of the last layer are then computed for that
token alone (notes/06-cpu.md).
"""

from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
from flax import nnx
from jax.lax import dynamic_slice_in_dim
from jaxtyping import Array, Int

from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.attention import is_exact
from jaxbert.model.attention.dense import biased_scores, masked_weights, product, weighted_mean
from jaxbert.model.axes import Hidden, Keys, Positions, Queries, Segments, Values
from jaxbert.model.head import Classifier, PoolingHead
from jaxbert.model.position import Bias
from jaxbert.model.transformer import AttentionMetadata, Inputs, Layer, SelfAttention, Transformer

Index = Int[Array, ""] | Int[Array, "b"]  # of a token: the same in every row, or each row's own


def reads_one_token(head: nnx.Module) -> bool:
    """Whether a head reads the first state that its mask shows it, and no other."""
    return type(head) is Classifier or (type(head) is PoolingHead and head.modes == ("cls",))


def computes_one_token(encoder: Transformer) -> TypeGuard[Unrolled]:
    """Whether `forward_one` has the encoder's arithmetic: layers of nothing but our own modules."""
    if not (isinstance(encoder, Unrolled) and is_exact(encoder.attention)):
        return False
    last: Any = encoder.layers[-1]
    own = all(type(each).__module__.startswith("jaxbert.") for _, each in nnx.iter_modules(last))
    return own and type(last) is Layer and type(last.attention) is SelfAttention


def forward_one(encoder: Unrolled, inputs: Inputs, index: Index) -> Hidden:
    """The last state of the token at index of each row, [b, 1, d]."""
    x, metadata = encoder.forward_through(encoder.layers[:-1], inputs)
    last: Any = encoder.layers[-1]
    return encoder.final_norm(last.rest(at(x, index), context(last.attention, x, metadata, index)))


def at(x: jax.Array, index: Index) -> jax.Array:
    """x[:, index], with that axis kept; x has b rows, or one that stands for all."""
    if index.ndim == 0:
        return dynamic_slice_in_dim(x, index, 1, axis=1)
    of_rows = jnp.reshape(index, (-1, *[1] * (x.ndim - 1)))
    return jnp.take_along_axis(x, of_rows, axis=1, mode="clip")


@partial(jax.named_call, name="attention")
def context(
    attention: SelfAttention, x: Hidden, metadata: AttentionMetadata, index: Index
) -> Hidden:
    """The projected context [b, 1, d] of the token at index, from the states of all tokens."""
    scheme, positions, segments, _ = metadata
    q = attention.queries(at(x, index), scheme, at(positions, index))
    _, k, v = attention.heads(x, metadata)
    of_one = one_query_attention(q, k, v, scheme.bias, positions, segments, index)
    return attention.joined(of_one).astype(x.dtype)


def one_query_attention(
    q: Queries,
    k: Keys,
    v: Values,
    bias: Bias | None,
    positions: Positions,
    segments: Segments,
    index: Index,
) -> Queries:
    """Row t = index of softmax(q k^T / sqrt(h) + bias) v, [b, n, 1, h], as dense.py defines it.

    q [b, n, 1, h] is that row of q; all else is of all tokens.
    """
    scores = product("bnth,bnsh->bnts", q, k) * (q.shape[-1] ** -0.5)
    if bias is not None:
        of_query = at(positions, index)
        of_keys = jnp.broadcast_to(positions, (len(of_query), positions.shape[1]))
        scores = biased_scores(scores, bias, of_query, of_keys)
    mask = (at(segments, index) == segments) & (segments != 0)
    return weighted_mean(masked_weights(scores, mask[:, None, None, :]), v).astype(q.dtype)
