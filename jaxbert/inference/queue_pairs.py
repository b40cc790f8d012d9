"""CrossEncoder for many callers at once: their pairs wait in one queue."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, get_args

import numpy as np

from jaxbert.arguments import choice, integer
from jaxbert.inference.apart import Apart
from jaxbert.inference.computers import computers_of
from jaxbert.inference.engine import Engine
from jaxbert.inference.forward import logits
from jaxbert.inference.model_queue import ModelQueue, apart_of
from jaxbert.inference.programs import AnyProgram
from jaxbert.inference.queue_models import AnyCrossEncoder, check_model
from jaxbert.inference.queue_tokens import OnLong, about, check_whole, cut_pairs, own_copy
from jaxbert.inference.ranking import Ranking
from jaxbert.inference.scoring import Activation, activated, check_order, named_activation
from jaxbert.inference.waiting import Answer, Listener
from jaxbert.text.tokenizer import Tokenizer


class AsyncCrossEncoder(ModelQueue):
    """A CrossEncoder for many callers at once, whose pairs share batches."""

    def __init__(
        self,
        cross_encoder: AnyCrossEncoder,
        *,
        max_wait: float = 30.0,
        timeout: float = 120.0,
        long: int = 1024,
        listener: Listener | None = None,
        apart: Apart | None = None,
    ) -> None:
        """Start the threads that compute; the arguments are those of AsyncEmbedder."""
        check_model(cross_encoder, "CrossEncoder", ("request", "rank"))
        self.cross_encoder = cross_encoder
        computers = computers_of(cross_encoder.engine, self.programs)
        super().__init__(
            computers,
            max_wait=max_wait,
            timeout=timeout,
            long=long,
            listener=listener,
            apart=apart_of(apart, computers[0], cross_encoder),
        )

    def programs(self, engine: Engine[Any]) -> dict[str, AnyProgram]:
        """The program of the scores on the device of an engine."""
        model = self.cross_encoder
        if engine is model.engine:
            return {"scores": model.scores}
        return {"scores": engine.program(logits, model.head)}

    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        on_long: OnLong = "truncate",
        activation_fn: str | Activation | None = None,
    ) -> Answer:
        """The scores [n] of the query with each document, as `CrossEncoder.predict` gives them.

        The arguments are those of `CrossEncoder.rank`; tokens are those of the pairs. With
        on_long="error" nothing is computed where a pair would be cut. Raises InputError for that,
        for a model of more than one label, and as `AsyncEmbedder.encode`.
        """
        choice(on_long, "on_long", get_args(OnLong))
        model = self.cross_encoder
        check_order(model.settings.labels)
        documents = Ranking.of(query, documents, None, False).documents
        name = model.settings.activation_name if activation_fn is None else activation_fn
        activate = named_activation(name)
        request = model.request(prompt_name, prompt, None, None, max_length)
        characters = [len(request.prefix) + len(query) + len(text) for text in documents]
        expected = about(characters, request.most)
        with self.admitted("scores", expected):
            tokens, uncut = await self.tokenised(
                "scores",
                expected,
                sum(characters),
                request.tokenizer,
                lambda: cut_pairs(request, query, documents, lambda: self.apart),
            )
            if on_long == "error":
                check_whole(tokens, uncut, request.most)
            rows = np.zeros((len(documents), request.labels), np.float32)
            await self.computed("scores", tokens, rows)
        counts = np.array([ids.shape[-1] for ids in tokens], np.int32)
        return Answer(activated(rows, activate)[:, 0], counts, uncut)

    @cached_property
    def apart(self) -> Tokenizer:
        """A tokenizer of its own for whole texts."""
        return own_copy(self.cross_encoder.tokenizer)

    async def warmup(self, max_length: int | None = None) -> int:
        """Compile all that pairs of up to max_length tokens can need; how many shapes were new.

        None: 512, or max_seq_length if less.
        """
        most = self.cross_encoder.max_seq_length
        longest = min(most, 512) if max_length is None else integer(max_length, "max_length", 1)
        return await self.prepared("scores", longest, self.cross_encoder.typed)
