"""Queues that refuse a request of too many tokens, once these are known."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbert.inference.batches import count
from jaxbert.inference.model_queue import ModelQueue
from jaxbert.inference.queue import AsyncCrossEncoder, AsyncEmbedder
from jaxbert.serve.wire.errors import RequestError


class Bounded(ModelQueue):
    """A queue whose requests have at most so many tokens, by the kind of their results.

    The states of all tokens are thousands of times as large as the tokens, and their JSON is
    several times as large again.
    """

    most: Mapping[str, int]

    async def computed(self, kind: str, tokens: Sequence[np.ndarray], *more: Any) -> None:
        """Fill rows as ModelQueue does. Raises RequestError for more tokens than `most` says."""
        number, most = sum(map(count, tokens)), self.most[kind]
        if number > most:
            of_all = " where each token has its vector" if kind == "states" else ""
            raise RequestError(
                f"the request has {number} tokens, and the most is {most}{of_all}; send several "
                "requests",
                code="too_many_tokens",
            )
        await super().computed(kind, tokens, *more)


class BoundedEmbedder(Bounded, AsyncEmbedder):
    """An AsyncEmbedder with a bound on the tokens of a request."""

    def __init__(self, embedder: Any, tokens: int, states: int, **options: Any) -> None:
        """tokens of a request for vectors, states of one for all tokens; options as it has."""
        super().__init__(embedder, **options)
        self.most = {"vectors": tokens, "states": states}


class BoundedCrossEncoder(Bounded, AsyncCrossEncoder):
    """An AsyncCrossEncoder with a bound on the tokens of a request."""

    def __init__(self, cross_encoder: Any, tokens: int, **options: Any) -> None:
        """tokens are those of all pairs of a request; options as it has."""
        super().__init__(cross_encoder, **options)
        self.most = {"scores": tokens}
