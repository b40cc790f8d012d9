"""The functions that programs compute on a batch: states of tokens, or vectors of texts."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.one_token import (
    Index,
    at,
    computes_one_token,
    forward_one,
    reads_one_token,
)
from jaxbert.model.attention.expansion import expansion
from jaxbert.model.axes import Hidden, Mask
from jaxbert.model.copyable import with_attention
from jaxbert.model.head import LabelHead, PoolingHead, TokenProjection
from jaxbert.model.transformer import Inputs, Transformer


def rows_by_text(hidden: Hidden, token_index: jax.Array) -> tuple[Hidden, Mask]:
    """Rows [b, t, d] that several texts share -> a row per text [m, u, d], and where it has tokens.

    token_index [m, u] holds indices into b * t, -1 beyond the end of a text.
    """
    flat = hidden.reshape(-1, hidden.shape[-1]).at[token_index]
    states = flat.get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return states, token_index >= 0


def inputs(batch: BatchArrays) -> Inputs:
    """The arrays of a batch as an encoder takes them."""
    ids, segments, positions = map(jnp.asarray, batch[:3])
    types = jnp.zeros_like(ids) if batch.types is None else jnp.asarray(batch.types)
    return Inputs(ids, segments, types, positions)


def states(encoder: Transformer, batch: BatchArrays) -> tuple[Hidden, Mask]:
    """A batch of m texts -> its last states, a row per text [m, t, d], and where it has tokens."""
    hidden = encoder.forward(inputs(batch))
    if batch.token_index is None:
        return hidden, jnp.asarray(batch.segments) != 0
    return rows_by_text(hidden, jnp.asarray(batch.token_index))


def states_read(
    encoder: Transformer, head: PoolingHead | LabelHead, batch: BatchArrays, skipped: Index
) -> tuple[Hidden, Mask]:
    """The states that a head may read, and where there are tokens but the first `skipped` ones.

    skipped is a number for all texts, or [m]. The states are [m, 1, d] where the head reads the
    first of these alone and rows hold one text each.
    """
    if reads_one_token(head) and batch.token_index is None and computes_one_token(encoder):
        segments = jnp.asarray(batch.segments)
        read = (at(segments, skipped) != 0) & (of_texts(skipped) < segments.shape[1])
        return forward_one(encoder, inputs(batch), skipped), read
    hidden, mask = states(encoder, batch)
    index = jnp.arange(mask.shape[1], dtype=jnp.int32)[None, :]
    return hidden, mask & (index >= of_texts(skipped))


def of_texts(skipped: Index) -> jax.Array:
    """A number for all texts, or one of each, as a column [#m, 1]."""
    return jnp.reshape(skipped, (-1, 1))


def vectors(
    encoder: Transformer, head: PoolingHead, batch: BatchArrays, skipped: Index
) -> jax.Array:
    """A batch of m texts -> [m, d]; the first `skipped` tokens of a text are not pooled.

    skipped is a number for all texts, or [m] for texts with prompts of their own.
    """
    return head(*states_read(encoder, head, batch, skipped))


def token_states(encoder: Transformer, batch: BatchArrays) -> jax.Array:
    """A batch of m texts -> the states of all tokens [m, t, d] in float32."""
    return states(encoder, batch)[0].astype(jnp.float32)


def logits(encoder: Transformer, head: LabelHead, batch: BatchArrays) -> jax.Array:
    """A batch of m texts or pairs -> the logits [m, labels], of each from its first token."""
    return head(*states_read(encoder, head, batch, jnp.asarray(0, jnp.int32)))


def token_vectors(encoder: Transformer, head: TokenProjection, batch: BatchArrays) -> jax.Array:
    """A batch of m texts -> the unit vectors of all tokens [m, t, width]."""
    return head(states(encoder, batch)[0])


def expanded_vectors(encoder: Transformer, head: TokenProjection, batch: BatchArrays) -> jax.Array:
    """The same for texts whose tokens come with 1 where none is to attend to them, else 0.

    That stands in the place of types, of which all tokens have 0.
    """
    assert batch.types is not None, "texts without a row that says which tokens are not attended"
    alone, segments = jnp.asarray(batch.types) == 1, jnp.asarray(batch.segments)
    signed: Any = jnp.where(alone, -segments, segments)
    reading = with_attention(encoder, expansion)
    return token_vectors(reading, head, batch._replace(segments=signed, types=None))
