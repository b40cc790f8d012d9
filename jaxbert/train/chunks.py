"""Exact gradients of a loss over many rows, in the memory of a few of them."""

from collections.abc import Callable
from typing import Any

import jax

from jaxbert.arguments import integer
from jaxbert.errors import InputError

# A function of rows, whose arrays have the leading axis b, and of a key -> arrays of the same axis.
Embed = Callable[[Any, jax.Array], Any]


def in_chunks(embed: Embed, rows: int) -> Embed:
    """The same function, computed for `rows` rows at a time; each chunk has a key of its own.

    Its states are not kept but computed again in the backward pass, chunk by chunk, so that a loss
    of all results has the memory of one chunk, for the time of one more forward pass. Gradients are
    the same: nothing is approximated. Raises InputError if the number of rows is no multiple.
    Source: Gao et al., arXiv:2101.06983, section 3, whose cache of gradients is here what
    checkpointing in a scan does.
    """
    rows = integer(rows, "rows", 1)

    def embed_in_chunks(texts: Any, key: jax.Array) -> Any:
        numbers = {leaf.shape[0] for leaf in jax.tree.leaves(texts)}
        if len(numbers) != 1:
            raise InputError(f"the arrays have {sorted(numbers)} rows; make them equal")
        (b,) = numbers
        if b <= rows:
            return embed(texts, key)
        if b % rows != 0:
            raise InputError(f"{b} rows are no multiple of the {rows} of a chunk; choose another")
        number = b // rows
        chunks = jax.tree.map(lambda x: x.reshape(number, rows, *x.shape[1:]), texts)
        # A scan's backward pass cannot share what the forward one computed; no guard is needed.
        step = jax.checkpoint(lambda chunk: embed(*chunk), prevent_cse=False)
        results = jax.lax.map(step, (chunks, jax.random.split(key, number)))
        return jax.tree.map(lambda y: y.reshape(b, *y.shape[2:]), results)

    return embed_in_chunks
