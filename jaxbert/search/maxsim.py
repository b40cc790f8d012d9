"""The k best documents by MaxSim, for vectors of tokens.

Source: Khattab and Zaharia, arXiv:2004.12832, section 3.3.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxbert.arguments import integer
from jaxbert.inference.late_interaction import maxsim, token_lists

# Documents that are compared at a time.
DOCUMENTS = 4096


def maxsim_top_k(
    queries: Any, documents: Sequence[Any], k: int, *, mean: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k documents of the highest MaxSim: scores float32 [q, k] falling, indices int64 [q, k].

    queries and documents are lists of arrays [t_i, w], as MultiVectorEncoder gives them; mean
    divides by the number of a query's tokens. Equal scores go by the lower index; k beyond the
    number of documents is that number. Raises InputTypeError and InputError as `maxsim` does.
    """
    k, asked = integer(k, "k", 1), token_lists(queries, "queries")
    read = token_lists(documents, "documents")
    scores = np.zeros((len(asked), 0), np.float32)
    indices = np.zeros((len(asked), 0), np.int64)
    for first in range(0, len(read), DOCUMENTS):
        own = maxsim(asked, read[first : first + DOCUMENTS], mean)
        rows = np.broadcast_to(np.arange(first, first + own.shape[1]), own.shape)
        scores, indices = np.hstack([scores, own]), np.hstack([indices, rows])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return scores, indices
