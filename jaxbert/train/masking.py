"""Which tokens a masked language model has to find: whole words, a fixed number of places a row.

All of it runs inside jit and depends on nothing but the arrays and the key. p is the number of
places that a row has; a shorter text does not use them all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxbert.arguments import integer
from jaxbert.errors import InputError, InputTypeError, TextError, shown
from jaxbert.model.axes import Ids

Words = Int[Array, "b t"]  # the number of the word of a token, below t; -1: never masked
Places = Int[Array, "b p"]
Weights = Float[Array, "b p"]  # 1 at a place that is used, else 0

# The fewest tokens of words that a text must have: one is masked, the others are read.
FEWEST = 3


class Masked(NamedTuple):
    """The ids that the model reads, and the places of the tokens that it has to find."""

    ids: Ids
    places: Places
    weights: Weights


def count(tokens: int, share: float) -> int:
    """The tokens to be masked of so many: their share, rounded, at least 1, and never all."""
    return min(max(1, math.floor(share * tokens + 0.5)), max(1, tokens - 1))


def choose(words: Words, share: float, key: jax.Array) -> tuple[Places, Weights]:
    """Whole words in random order, as long as their tokens are at most `count` of the row's.

    Words of more tokens than that are passed over; if a row has no others, the first tokens of one
    of them are masked. A word is masked with all of its tokens or not at all but in that case.
    """
    b, t = words.shape
    row = jnp.arange(b, dtype=jnp.int32)[:, None]
    is_word = words >= 0
    number = is_word.sum(axis=1, dtype=jnp.int32)
    # From a table, since a product in float32 would round otherwise than on the host.
    table = np.array([count(n, share) for n in range(t + 1)], np.int32)
    most = jnp.minimum(jnp.asarray(table)[number], number)[:, None]

    index = jnp.where(is_word, words, t)
    sizes = jnp.zeros((b, t), jnp.int32).at[row, index].add(1, mode="drop")
    order = jnp.argsort(jax.random.uniform(key, (b, t)), axis=1).astype(jnp.int32)
    at_word = jnp.clip(words, 0, t - 1)
    size, rank = (jnp.take_along_axis(of_word, at_word, axis=1) for of_word in (sizes, order))

    # Words that fit come first, then those that do not, then what is no word; each of them in
    # random order, with the tokens of a word in their own, since the sort is stable.
    rank = rank + jnp.where(size <= most, 0, t) + jnp.where(is_word, 0, 2 * t)
    places = jnp.argsort(rank, axis=1, stable=True).astype(jnp.int32)
    ranks, size = (jnp.take_along_axis(of_token, places, axis=1) for of_token in (rank, size))
    slot = jnp.arange(t, dtype=jnp.int32)[None, :]
    is_first = jnp.concatenate([jnp.ones((b, 1), bool), ranks[:, 1:] != ranks[:, :-1]], axis=1)
    ends = jax.lax.cummax(jnp.where(is_first, slot, 0), axis=1) + size
    chosen = ((ends <= most) & (ranks < 2 * t)).sum(axis=1, dtype=jnp.int32)[:, None]
    chosen = jnp.where(chosen == 0, most, chosen)

    p = count(t, share)
    return places[:, :p], (slot[:, :p] < chosen).astype(jnp.float32)


@dataclass(frozen=True)
class WholeWords:
    """A share of the tokens of every row is masked, by whole words; see `choose`.

    Of the places, each by itself, the share `mask` gets mask_id, `random` another token, drawn
    evenly from the vocabulary without special_ids, and `keep` stays as it is: 80, 10 and 10 percent
    as in BERT (arXiv:1810.04805, section 3.1).
    """

    share: float
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]
    mask: float = 0.8
    random: float = 0.1
    keep: float = 0.1

    def __post_init__(self) -> None:
        """Raise InputError for numbers that cannot be used, InputTypeError for what is none."""
        for name in ("share", "mask", "random", "keep"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputTypeError(f"{name} is {shown(value)}; pass a number from 0 to 1")
            if not 0.0 <= value <= 1.0:
                raise InputError(f"{name} is {value}; it must be from 0 to 1")
        if self.share in (0.0, 1.0):
            raise InputError(f"share is {self.share}; some tokens are masked, others are read")
        parts = (self.mask, self.random, self.keep)
        if not math.isclose(sum(parts), 1.0):
            raise InputError(f"mask, random and keep are {parts}; they must sum to 1")
        integer(self.vocab_size, "vocab_size", 1)
        for name, ids in (("mask_id", [self.mask_id]), ("a special id", self.special_ids)):
            for id in ids:
                integer(id, name, 0, self.vocab_size - 1)
        if len(set(self.special_ids)) == self.vocab_size:
            raise InputError("special_ids has the whole vocabulary; leave some to be drawn")

    def slots(self, length: int) -> int:
        """The number p of places in a row of `length` tokens."""
        return count(length, self.share)

    def __call__(self, ids: Ids, words: Words, key: jax.Array) -> Masked:
        """The masked rows, of ids [b, t] and the numbers of their words."""
        ids, words = jnp.asarray(ids), jnp.asarray(words)
        if words.ndim != 2 or ids.shape != words.shape:
            raise InputError(f"ids has shape {ids.shape} and words {words.shape}; pass [b, t] both")
        where, what, which = jax.random.split(key, 3)
        places, weights = choose(words, self.share, where)
        own = jnp.take_along_axis(ids, places, axis=1)
        drawn = np.setdiff1d(np.arange(self.vocab_size, dtype=np.int32), self.special_ids)
        other = jnp.asarray(drawn)[jax.random.randint(which, places.shape, 0, len(drawn))]
        luck = jax.random.uniform(what, places.shape)
        new = jnp.where(luck < 1.0 - self.keep, other, own)
        new = jnp.where(luck < self.mask, self.mask_id, new)
        new = jnp.where(weights > 0, new, own).astype(ids.dtype)
        row = jnp.arange(ids.shape[0], dtype=jnp.int32)[:, None]
        return Masked(ids.at[row, places].set(new), places, weights)


def check(words: Any, texts: Sequence[int] | None = None) -> None:
    """Raise TextError for the first row that has no three tokens of words, before it is masked.

    words [b, t] are numbers below t, -1 for special tokens and padding; texts are the numbers of
    the rows in the message, None: 0, 1, 2 ... Raises InputError for other numbers.
    """
    array = np.asarray(words)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError(f"words is {array.dtype}{list(array.shape)}; pass integers [b, t]")
    t = array.shape[1]
    if array.size and not (array.min() >= -1 and array.max() < t):
        raise InputError(
            f"words has numbers from {array.min()} to {array.max()}; pass -1 to {t - 1}"
        )
    tokens = (array >= 0).sum(axis=1)
    for row in np.flatnonzero(tokens < FEWEST).tolist():
        number = row if texts is None else texts[row]
        raise TextError(
            number,
            f"has {tokens[row]} tokens beside special ones, and masking needs {FEWEST}; leave it "
            "out, or join it with another",
        )
