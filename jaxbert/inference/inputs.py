"""From the arrays that callers pass to checked int32 Inputs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike, DTypeLike

from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.model.components import Components
from jaxbert.model.config import EncoderConfig
from jaxbert.model.position import Position
from jaxbert.model.transformer import Inputs

# What callers may pass: NumPy or JAX arrays, or nested lists.
ArrayInput = ArrayLike | Sequence[Any]


def integers(value: ArrayInput, name: str) -> jax.Array | np.ndarray:
    """The value as int32 [b, t]; on the host unless it is traced."""
    try:
        array = value if isinstance(value, jax.Array) else np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name} has rows of different lengths; pad them to one") from error
    except Exception as error:  # whatever the object's conversion raises
        raise InputTypeError(
            f"{name} is a {type(value).__name__}; pass an array of integers"
        ) from error
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.integer):
        raise InputTypeError(f"{name} has dtype {array.dtype}; pass integers (or booleans)")
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{name} has shape {array.shape}; it must be [rows, tokens], with tokens")
    if isinstance(array, jax.core.Tracer):
        return array.astype(jnp.int32)
    wide = np.asarray(array)
    if wide.size and (wide.max() > np.iinfo(np.int32).max or wide.min() < np.iinfo(np.int32).min):
        raise InputError(f"{name} holds a number beyond 32 bits; check where it comes from")
    return wide.astype(np.int32)


def check_range(value: jax.Array | np.ndarray, name: str, limit: int, what: str) -> None:
    """Raise InputError for numbers outside [0, limit); traced values pass, and lookups give NaN."""
    if isinstance(value, jax.core.Tracer) or value.size == 0:
        return
    low, high = int(value.min()), int(value.max())
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        raise InputError(f"{name} holds {wrong}, but the model has {what} 0 ... {limit - 1}")


def check_dtype(dtype: DTypeLike) -> DTypeLike:
    """The dtype, which must be float32 or bfloat16. Raises InputError for any other."""
    try:
        name = jnp.dtype(dtype).name
    except Exception:  # NumPy has many ways to refuse
        name = dtype if isinstance(dtype, str) else shown(dtype)
    if name not in ("float32", "bfloat16"):
        raise InputError(f"dtype is {name}; weights can be float32 or bfloat16")
    return jnp.dtype(dtype)


def check_parts(config: Any, rngs: Any, position: Any, feed_forward: Any, attention: Any) -> None:
    """Raise InputTypeError for an argument of Encoder that is of the wrong type."""
    if not isinstance(config, EncoderConfig):
        raise InputTypeError(f"config is a {type(config).__name__}; pass an EncoderConfig")
    if not isinstance(rngs, nnx.Rngs):
        raise InputTypeError(f"rngs is a {type(rngs).__name__}; pass nnx.Rngs(0)")
    if position is not None and not isinstance(position, Position):
        raise InputTypeError(f"position is a {type(position).__name__}; pass a jaxbert.Position")
    for name, value in (("feed_forward", feed_forward), ("attention", attention)):
        if value is not None and not callable(value):
            raise InputTypeError(f"{name} is a {type(value).__name__}; pass a function or None")


def check_makers(components: Any, layers: Any, embeddings: Any) -> None:
    """Raise InputTypeError for components, or makers of layers and embeddings, that are none."""
    if components is not None and not isinstance(components, Components):
        raise InputTypeError(
            f"components is a {type(components).__name__}; pass components_of(config)._replace(...)"
        )
    given = [] if embeddings is None else [embeddings]
    makers = [*given, *(layers if isinstance(layers, list | tuple) else ())]
    if not all(map(callable, makers)) or not isinstance(layers, list | tuple | None):
        raise InputTypeError(
            "embeddings is a class or function that makes one, layers a list of those for each "
            f"layer; these are {shown(embeddings)} and {shown(layers)}"
        )


def check_runs(segments: jax.Array | np.ndarray) -> None:
    """Raise InputError for a text in two pieces, since positions would restart in the second."""
    if isinstance(segments, jax.core.Tracer):
        return
    for row in np.asarray(segments):
        runs = row[np.flatnonzero(np.diff(row, prepend=row[:1] - 1))]
        texts = runs[runs != 0]
        if len(texts) != len(np.unique(texts)):
            raise InputError(
                "segment_ids has a text in two pieces; pass positions too, or an attention_mask"
            )


def restart(segments: jax.Array | np.ndarray) -> jax.Array:
    """Positions that count from 0 in each run of equal segment ids: the texts of a packed row."""
    index = jnp.arange(segments.shape[1], dtype=jnp.int32)[None, :]
    first = jnp.ones((segments.shape[0], 1), jnp.bool_)
    starts = jnp.concatenate([first, segments[:, 1:] != segments[:, :-1]], axis=1)
    begin = jax.lax.cummax(jnp.where(starts, index, 0), axis=1)
    return index - begin


def check_length(positions: jax.Array | np.ndarray, limit: int) -> None:
    """Raise InputError for a position outside a learned table of `limit` rows."""
    if isinstance(positions, jax.core.Tracer) or positions.size == 0:
        return
    longest = int(positions.max()) + 1
    if longest > limit or int(positions.min()) < 0:
        raise InputError(
            f"a text has {longest} tokens, but this model learned positions for {limit} only; "
            f"truncate to {limit} (max_length) or use a model with ALiBi"
        )


# --- the four arrays ----------------------------------------------------------------------------


def token_types(
    value: ArrayInput | None, shape: tuple[int, ...], number: int
) -> jax.Array | np.ndarray:
    """The token types [b, t], which must be below number; zeros if value is None."""
    if value is None:
        return np.zeros(shape, np.int32)
    types = integers(value, "token_type_ids")
    check_range(types, "token_type_ids", max(number, 1), "token types")
    return types


def segments_of(
    mask: ArrayInput | None, segments: ArrayInput | None, shape: tuple[int, ...]
) -> jax.Array | np.ndarray:
    """Segment ids [b, t]: those passed, or an attention mask, whose values are 0 and 1, or ones."""
    if mask is not None and segments is not None:
        raise InputError("attention_mask and segment_ids say the same thing; pass one of them")
    if segments is not None:
        checked = integers(segments, "segment_ids")
        check_range(checked, "segment_ids", np.iinfo(np.int32).max, "segments")
        return checked
    if mask is None:
        return np.ones(shape, np.int32)
    checked = integers(mask, "attention_mask")
    check_range(checked, "attention_mask", 2, "mask values")
    return checked


def check_shapes(ids: Any, segments: Any, types: Any, positions: Any) -> None:
    """Raise InputError unless all arrays are [b, t]; positions may be [1, t]."""
    for name, array in (("token_type_ids", types), ("attention_mask or segment_ids", segments)):
        if array.shape != ids.shape:
            raise InputError(f"{name} has shape {array.shape}, but input_ids has {ids.shape}")
    if positions.shape not in (ids.shape, (1, ids.shape[1])):
        raise InputError(f"positions has shape {positions.shape}; input_ids has {ids.shape}")


def prepare(
    config: EncoderConfig,
    limit: int | None,
    input_ids: ArrayInput,
    attention_mask: ArrayInput | None = None,
    token_type_ids: ArrayInput | None = None,
    segment_ids: ArrayInput | None = None,
    positions: ArrayInput | None = None,
) -> Inputs:
    """The Inputs of an encoder: checked int32 arrays, with defaults for those left out.

    Positions default to the index in the row under a mask, and restart in each packed text under
    segment_ids; limit is the number of positions that the encoder has, None for any. Raises
    InputError and InputTypeError.
    """
    ids = integers(input_ids, "input_ids")
    check_range(ids, "input_ids", config.vocab_size, "token ids")
    types = token_types(token_type_ids, ids.shape, config.type_vocab_size)
    segments = segments_of(attention_mask, segment_ids, ids.shape)
    if positions is not None:
        pos = integers(positions, "positions")
    elif segment_ids is not None:
        check_runs(segments)
        pos = restart(segments)
    else:
        pos = np.arange(ids.shape[1], dtype=np.int32)[None, :]
    check_shapes(ids, segments, types, pos)
    if limit is not None:
        check_length(pos, limit)
    return Inputs(jnp.asarray(ids), jnp.asarray(segments), jnp.asarray(types), jnp.asarray(pos))
