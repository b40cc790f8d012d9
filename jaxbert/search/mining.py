"""The most similar pairs of a list of vectors.

Source: sentence-transformers 6.2, util/retrieval.py, for the definition.
"""

from typing import Any

import numpy as np

from jaxbert.arguments import choice, integer
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.search.checks import rows_of
from jaxbert.search.searching import BUDGET, top_k

# Vectors whose neighbours are looked for at a time.
ROWS = 4096


def paraphrase_mining(
    embeddings: Any,
    *,
    neighbours: int = 100,
    max_pairs: int = 500_000,
    similarity: str = "cosine",
    budget: int = BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j by falling score: scores float32 [p], pairs int64 [p, 2].

    A pair is there if one of the two is among the `neighbours` most similar of the other, and it is
    among the max_pairs of the highest score; of equal scores the lower i, then the lower j, comes
    first. Raises InputError as `top_k` does.
    """
    vectors = rows_of(embeddings, "embeddings")
    neighbours = integer(neighbours, "neighbours", 1)
    max_pairs = integer(max_pairs, "max_pairs", 1)
    choice(similarity, "similarity", SIMILARITIES)
    kept, keys = np.zeros(0, np.float32), np.zeros(0, np.int64)
    for first in range(0, len(vectors), ROWS):
        scores, others = top_k(
            vectors[first : first + ROWS],
            vectors,
            neighbours + 1,  # one of which may be the vector itself
            similarity=similarity,
            budget=budget,
        )
        own = np.arange(first, first + len(scores))[:, None]
        there = others != own
        there &= np.cumsum(there, axis=1) <= neighbours
        low, high = np.minimum(own, others)[there], np.maximum(own, others)[there]
        kept = np.concatenate([kept, scores[there]])
        keys = np.concatenate([keys, low * len(vectors) + high])
        kept, keys = highest(kept, keys, max_pairs)
    return kept, np.stack([keys // max(1, len(vectors)), keys % max(1, len(vectors))], axis=1)


def highest(scores: np.ndarray, keys: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, with its highest score, and of them the `number` of the highest scores."""
    order = np.lexsort((keys, -scores))
    scores, keys = scores[order], keys[order]
    first = np.sort(np.unique(keys, return_index=True)[1])[:number]
    return scores[first], keys[first]
