"""Where a token stands: ALiBi, T5's buckets, rotary embeddings, and RoBERTa's count of positions.

ALiBi: Press et al. 2021, arXiv:2108.12409, section 3.  Buckets: Raffel et al. 2019,
arXiv:1910.10683, section 2.1, and T5's code.  Rotary: Su et al. 2021, arXiv:2104.09864, section 3.
"""

import math

import numpy as np

from jaxbert.model.reference.basics import Tensor


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


def relative_buckets(offset: Tensor, buckets: int, max_distance: int) -> Tensor:
    """The bucket of each offset, key - query: half of the buckets are for keys after the query.

    In each half the first half of the buckets holds one distance each, and the others grow with
    the logarithm of the distance; all from about max_distance on are in the last.

    The published code computes the logarithm in float32, which decides where a bucket begins if
    that is at a whole number; here too each step is rounded to float32.
    """
    half = buckets // 2
    exact = half // 2
    distance = np.abs(offset)
    ratio = (np.maximum(distance, exact) / exact).astype(np.float32)
    logarithm = np.log(ratio.astype(np.float64)).astype(np.float32)
    share = logarithm / np.float32(math.log(max_distance / exact))
    far = exact + np.floor(share * np.float32(half - exact)).astype(int)
    bucket = np.where(distance < exact, distance, np.minimum(far, half - 1))
    return bucket + np.where(offset > 0, half, 0)


def relative_bias(table: Tensor, length: int, max_distance: int) -> Tensor:
    """bias[n, t, s] = table[bucket of s - t, n]; the table is stored [buckets, n]."""
    index = np.arange(length)
    buckets = relative_buckets(index[None, :] - index[:, None], len(table), max_distance)
    return table[buckets].transpose(2, 0, 1)


def rotary(x: Tensor, base: float) -> Tensor:
    """x [b, n, t, h] with each pair of features (i, i + h/2) turned by the angle t base^(-2i/h).

    Differs: the paper pairs neighbours, (2i, 2i + 1); all models here pair the halves.
    """
    half = x.shape[-1] // 2
    angle = np.arange(x.shape[2])[:, None] * base ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def counted_positions(input_ids: Tensor, pad: int) -> Tensor:
    """pad + 1, pad + 2, ... for the tokens that are no pad, and pad for those that are.

    They are counted by the ids; attention_mask has no part in it.
    Source: create_position_ids_from_input_ids in transformers' RoBERTa.
    """
    real = input_ids != pad
    return pad + np.cumsum(real, axis=1) * real
