"""An engine beside the JAX encoder, on a few tokens: it goes on only where both agree."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxbert.errors import EngineError
from jaxbert.inference import forward
from jaxbert.inference.batches import BatchArrays, Packed, narrow
from jaxbert.inference.programs import Program, on_host
from jaxbert.model.transformer import Transformer

# The length of the difference over that of what JAX gives. Rounding gives 1e-6 in float32 and up to
# 1e-4 where weights are such that float32 decides few digits; to compute in bfloat16 gives 5e-3. In
# bfloat16 rounding gives up to 3e-2, a wrong mask 1. Smaller mistakes in a graph are for the tests.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
# Tokens of the texts: of pairwise different lengths, two of them in one row, none fills its row.
COUNTS = (23, 11, 7, 2)
ROWS, LENGTH = (0, 1, 1, 2), 24


def check_program(
    program: Callable[..., Any],
    function: Callable[..., jax.Array],
    fixed: Sequence[Any],
    device: jax.Device | None,
) -> None:
    """Raise EngineError where the program does not give function(*fixed, batch) as JAX does.

    One batch has texts of several lengths, alone in a row and not, and a row without any.
    """
    encoder: Transformer = fixed[0]
    batch = sample(encoder, function is forward.expanded_vectors)
    skipped = np.arange(*batch.text_axes, dtype=np.int32) % 3
    extra = (skipped,) if function is forward.vectors else ()
    exact = Program(function, *fixed, placement=device, fixed_placement=device)
    expected, found = on_host(exact(batch, *extra)), on_host(program(batch, *extra))
    assert batch.token_index is not None, "texts that share rows have an index"
    texts = len(COUNTS)
    expected, found = expected[:texts], found[:texts]
    if expected.ndim == 3:  # of tokens; behind the end of a text they mean nothing
        there = narrow(batch.token_index[:texts]) >= 0  # an engine need not give more
        expected, found = (x[:, : there.shape[1]][there] for x in (expected, found))
    off = np.linalg.norm(expected - found) / np.linalg.norm(expected)
    dtype = str(encoder.embeddings.word.dtype)
    if not off <= TOLERANCE[dtype]:  # NaN is not
        raise EngineError(
            f"the engine's results differ from those of the JAX encoder by {off:.1e} of their "
            f'length, where {TOLERANCE[dtype]:g} is allowed in {dtype}; use engine="jax", and '
            "report it with the versions of both"
        )


def sample(encoder: Transformer, expanded: bool) -> BatchArrays:
    """A batch of random ids, with types where the encoder has them."""
    random, config = np.random.default_rng(0), encoder.config
    most = min(encoder.position.limit or LENGTH, LENGTH)
    kinds = 2 if expanded else min(config.type_vocab_size, 2)
    tokens = []
    for count in (min(count, most) for count in COUNTS):
        ids, types = (random.integers(0, n, count, np.int32) for n in (config.vocab_size, kinds))
        types[0] = 0  # of an expanded query, the first token is one that others attend to
        tokens.append(np.stack([ids, types]))
    members = np.arange(len(tokens))
    packed = Packed(members, np.array(ROWS), max(ROWS) + 2, LENGTH, len(tokens), LENGTH)
    return packed.fill(tokens)
