"""Zeros where weights were: a download into preallocated room that broke off, a lost block.

Trained weights are zero almost nowhere: the real all-MiniLM-L6-v2 has three zeros among 22 million.
So a run of zeros in a product or a norm says that numbers were lost. Rows of a table may be zero
(padding, words that never came), and a bias as a whole (never trained).
"""

import re
from collections.abc import Callable

import numpy as np

from jaxbert.errors import CheckpointError

TABLE = re.compile(r"(.*\.)?embeddings\.(word|position|token_type)_embeddings\.weight")
TYPES = re.compile(r"(.*\.)?embeddings\.token_type_embeddings\.weight")
# It adds the same to all scores of a query, so no training keeps it from underflowing.
KEY_BIAS = re.compile(r"(.*\.)?attention\.self\.key\.bias")
# Zeros in a row that no training leaves: a row, at most 64, at least 8.
LEAST, MOST = 8, 64
# Whole rows of zeros that a table may have in a row: a vocabulary is padded to a multiple of 128.
ROWS = 127


def check_zeros(tensor: np.ndarray, name: str) -> None:
    """CheckpointError for zeros that training does not leave; name is the published one."""
    shortest, lost = rule(tensor, name)
    flat = tensor.reshape(-1)
    # A run that long cannot hide between numbers that stand so far apart.
    if not np.any(flat[::shortest] == 0):
        return
    starts, ends = runs(flat, shortest)
    if starts.size and lost(starts, ends):
        raise CheckpointError(
            f"{name} holds {(ends - starts).max():,} zeros in a row, which no training leaves: "
            "numbers were lost; fetch the weights again, or, for a model that was pruned, pass "
            'ignore_config=("zero_weights",)'
        )


Lost = Callable[[np.ndarray, np.ndarray], bool]


def rule(tensor: np.ndarray, name: str) -> tuple[int, Lost]:
    """The shortest run that counts, and which runs say that numbers were lost."""
    size, width = tensor.size, tensor.shape[-1] if tensor.ndim else 1
    if TABLE.fullmatch(name):
        most = size if TYPES.fullmatch(name) else size // 2
        return between(width), lambda starts, ends: lost_in_table(starts, ends, width, most)
    if KEY_BIAS.fullmatch(name):
        return max(size, 1), lambda starts, ends: False
    if tensor.ndim < 2 and name.endswith((".bias", ".beta")):
        return between(size // 2), lambda starts, ends: int(ends[0] - starts[0]) < size
    return max(1, min(between(width), size)), lambda starts, ends: True


def between(run: int) -> int:
    """The length of a run within its bounds."""
    return min(MOST, max(LEAST, run))


def runs(flat: np.ndarray, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of zeros begin and end that are no shorter."""
    others = np.flatnonzero(flat != 0)
    edges = np.concatenate([[-1], others, [flat.size]])
    long = np.flatnonzero(np.diff(edges) > shortest)
    return edges[long] + 1, edges[long + 1]


def lost_in_table(starts: np.ndarray, ends: np.ndarray, width: int, most: int) -> bool:
    """Whether a run covers a part of a row, or more rows than padding, or too many numbers."""
    before, behind = -starts % width, ends % width
    run = ends - starts
    partly = (run < before + behind) | (before >= LEAST) | (behind >= LEAST)
    rows = (run - before - behind) // width
    return bool(np.any(partly | (rows > ROWS) | (run > most)))
