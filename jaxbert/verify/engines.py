"""An engine beside JAX and the float64 reference: its states, and the vectors of its graph."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.checkpoint.tensors import read_tensors
from jaxbert.errors import printable
from jaxbert.inference.engine import Engine
from jaxbert.inference.engines import AnyEngine
from jaxbert.model import reference
from jaxbert.model.head import PoolingHead
from jaxbert.process.backend import computing
from jaxbert.verify.compare import TOLERANCE, Difference, agree, difference, table
from jaxbert.verify.opened import Model
from jaxbert.verify.parts import Pair, Vectors
from jaxbert.verify.report import sample


def verify_engine(model: Model, dtype: str, kind: AnyEngine) -> tuple[str, bool]:
    """A table of the differences between an engine and the reference, and whether they agree.

    Beside the last states there are vectors where the model makes some; another head is computed
    by JAX from the engine's states.
    """
    ids, mask, what = sample(model)
    tensors = read_tensors(model.stored)
    theirs = np.asarray(reference.encode(tensors, model.stored.raw, ids, mask)[-1])
    stack = model.part.stack if isinstance(model.part, Vectors) else Stack()
    engine = Engine(model.encoder, stack, kind=kind)
    tokens = [row[seen != 0] for row, seen in zip(ids, mask, strict=True)]
    ours = states(engine, tokens, mask)
    valid = mask != 0
    differences = [difference("last states", ours[valid], theirs[valid])]
    if isinstance(model.part, Vectors):
        differences.append(compared_vectors(engine, stack, tokens, theirs, mask))
    more, line = model.part.compare(model.stored, model.encoder, Pair(ours, theirs, mask))
    agreed = agree([*differences, *more], TOLERANCE[dtype])
    lines = [
        printable(str(model.stored.folder)),
        table([*differences, *more]),
        *([line] if line else []),
        f"the engine {kind.name} in {dtype} {'agrees with' if agreed else 'DIFFERS from'} the "
        f"float64 reference on {what} (tolerance {TOLERANCE[dtype]:g} of each line's largest "
        "number)",
    ]
    return "\n".join(lines), agreed


def states(engine: Engine[Any], tokens: list[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """The last states [b, t, d] by an engine, zeros where there is no token."""
    found = np.zeros((*mask.shape, engine.encoder.config.hidden_size), np.float32)
    for members, rows in engine.run(engine.states, [tokens]):
        for member, row in zip(members, rows, strict=True):
            count = len(tokens[member])
            found[member, :count] = row[:count]
    return found


def compared_vectors(
    engine: Engine[Any],
    stack: Stack,
    tokens: list[np.ndarray],
    theirs: np.ndarray,
    mask: np.ndarray,
) -> Difference:
    """The engine's vectors beside those of the reference's states [b, t, d]."""
    found = np.zeros((len(tokens), engine.width), np.float32)
    for members, rows in engine.run(engine.vectors, [tokens], None, np.array(0, np.int32)):
        found[members] = rows
    with computing():
        head = PoolingHead(stack.pooling, stack.after)
        expected = head(jnp.asarray(theirs, jnp.float32), jnp.asarray(mask != 0))
        return difference("vectors", found, np.asarray(expected))
