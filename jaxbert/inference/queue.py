"""Embedder and CrossEncoder for many callers at once: their requests wait in one queue.

    queue = AsyncEmbedder(embedder)
    answer = await queue.encode(["a text", "another"])

Requests share batches, so that a hundred callers of one text each are served almost as fast as one
caller with a hundred texts. On a CPU, set jax_cpu_enable_async_dispatch to False before JAX starts:
else a long text holds up the short ones.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np

from jaxbert.arguments import as_list, choice, flag, integer
from jaxbert.errors import InputError
from jaxbert.inference.apart import Apart
from jaxbert.inference.computers import computers_of
from jaxbert.inference.model_queue import ModelQueue, apart_of
from jaxbert.inference.queue_models import AnyEmbedder, check_model
from jaxbert.inference.queue_pairs import AsyncCrossEncoder as AsyncCrossEncoder
from jaxbert.inference.queue_tokens import OnLong as OnLong
from jaxbert.inference.queue_tokens import about, about_windows, all_checked_ids, cut, own_copy
from jaxbert.inference.request import Request
from jaxbert.inference.waiting import Answer as Answer
from jaxbert.inference.waiting import Listener as Listener
from jaxbert.inference.waiting import Load as Load
from jaxbert.process.forked import check_not_forked
from jaxbert.text.chunking import TokenSpans, checked_spans, token_windows
from jaxbert.text.tokenizer import Tokenizer

Side = Literal["end", "start"]


class AsyncEmbedder(ModelQueue):
    """An Embedder for many callers at once, whose texts share batches.

    Its methods may be awaited in any event loop. A caller who is cancelled gives up the texts that
    have not run. The results are those of the Embedder, with deterministic=True to the bit.
    """

    def __init__(
        self,
        embedder: AnyEmbedder,
        *,
        max_wait: float = 30.0,
        timeout: float = 120.0,
        long: int = 1024,
        listener: Listener | None = None,
        apart: Apart | None = None,
    ) -> None:
        """Start the threads that compute; `close` ends them.

        A request is refused (QueueFullError) while work for over max_wait seconds is before it, and
        fails (QueueTimeoutError) if some of its texts have waited for `timeout` seconds. Texts of
        more than `long` tokens have threads of their own on a CPU, and after a warm-up all that it
        has not compiled; with Apart() a process of their own, which pays where there are both (on
        an accelerator it changes nothing). An Embedder on several devices has a thread for each,
        all of which take from one queue. Raises InputTypeError, InputError.
        """
        check_model(embedder, "Embedder", ("request", "encode_chunks"))
        self.embedder = embedder
        computers = computers_of(
            embedder.engine, lambda own: {"vectors": own.vectors, "states": own.states}
        )
        super().__init__(
            computers,
            max_wait=max_wait,
            timeout=timeout,
            long=long,
            listener=listener,
            apart=apart_of(apart, computers[0], embedder),
        )

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
        """The vectors [n, width] of the texts, as `Embedder.encode` has them before its `finish`.

        Prompts, max_length and on_long are those of `Embedder.encode`. Texts beyond max_length
        tokens lose their end, or with side="start" their start. Raises InputError and
        InputTypeError; ComputationError for a vector that is not finite; QueueFullError,
        QueueTimeoutError and QueueClosedError.
        """
        found = await self.answered(
            "vectors", texts, prompt_name, prompt, max_length, on_long, side
        )
        return found

    async def encode_tokens(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
        on_long: OnLong = "truncate",
        side: Side = "end",
    ) -> Answer:
        """The last states [t, d] of all tokens of each text; arguments and errors as `encode`."""
        found = await self.answered("states", texts, prompt_name, prompt, max_length, on_long, side)
        return found

    async def encode_ids(self, ids: Sequence[Any]) -> Answer:
        """The vectors [n, width] of texts given as token ids, special tokens included.

        Raises TextError for a text without ids, with ids that the model has not, or of more than
        max_seq_length tokens; nothing is cut.
        """
        check_not_forked()
        given = all_checked_ids(ids, self.embedder.max_seq_length)
        counts = np.array([len(row) for row in given], np.int32)
        with self.admitted("vectors", counts.tolist()):
            rows = self.new_rows("vectors", len(given))
            await self.computed("vectors", given, rows)
            return Answer(rows, counts, counts)

    async def encode_chunks(
        self,
        parts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        max_length: int | None = None,
    ) -> Answer:
        """Late chunking: the vectors [n, width] of the parts of one text, which follow each other.

        They are those of `Embedder.encode_chunks` of the text that the parts make together, with
        the parts as its chunks; beyond max_length tokens it runs in windows. Raises InputError for
        an empty part, TextError for one in which no token begins, and as `encode`.
        """
        parts = as_list([parts] if isinstance(parts, str) else parts, "parts")
        request = await self.request(prompt_name, prompt, max_length, "truncate")
        request = replace(request, engine=self.computers[0].engine)  # whose programs are warm
        ends = [0, *accumulate(map(len, parts))]
        text, places = "".join(parts), list(pairwise(ends))
        chunks = checked_spans(0, len(text), places)
        expected = about_windows(len(text), request.long.most)
        with self.admitted("states", expected):
            (tokens,) = await self.tokenised_in_thread(
                "states", expected, lambda: self.apart.detailed([request.prefix + text])
            )
            whole = TokenSpans.of(tokens, len(request.prefix), len(text))
            windows = list(token_windows(whole, request.long.most, None))
            rows: list[Any] = [None] * len(windows)
            await self.computed("states", [window.ids for window in windows], rows)

            def pooled() -> tuple[list[np.ndarray], np.ndarray]:
                width = request.engine.encoder.config.hidden_size
                states = np.zeros((len(tokens.ids), width), np.float32)
                for window, own in zip(windows, rows, strict=True):
                    window.copy_states(own, states)
                members = [whole.members(span) for span in chunks]
                request.check_not_empty(0, chunks, members)
                return members, request.of_chunks(states, members)

            members, vectors = await self.in_thread(pooled)
        counts = np.array([len(own) for own in members], np.int32)
        return Answer(vectors, counts, counts)

    async def warmup(self, max_length: int | None = None, *, states: bool = False) -> int:
        """Compile all that texts of up to max_length tokens can need; how many shapes were new.

        None: 512, or max_seq_length if less. Longer texts compile when they come. With `states`
        also what encode_tokens and encode_chunks need.
        """
        most = self.embedder.max_seq_length
        longest = min(most, 512) if max_length is None else integer(max_length, "max_length", 1)
        new = await self.prepared("vectors", longest)
        if flag(states, "states"):
            new += await self.prepared("states", longest)
            engine = self.computers[0].engine
            new += await self.in_thread(lambda: engine.prepare_pool(longest))
        return new

    # --- steps of these ---

    async def answered(
        self,
        kind: str,
        given: Sequence[str],
        prompt_name: str | None,
        prompt: str | None,
        max_length: int | None,
        on_long: OnLong,
        side: Side,
    ) -> Answer:
        """The results of one kind for checked texts, cut as asked for."""
        texts = as_list([given] if isinstance(given, str) else given, "texts")
        choice(on_long, "on_long", ("truncate", "error"))
        request = await self.request(prompt_name, prompt, max_length, on_long)
        check_side(side, request.prefix)
        characters = [len(request.prefix) + len(text) for text in texts]
        expected = about(characters, request.long.most)
        with self.admitted(kind, expected):
            tokenizer = await self.tokenizer(side)
            tokens, uncut = await self.tokenised(
                kind,
                expected,
                sum(characters),
                tokenizer,
                lambda: cut(tokenizer, [request.prefix + t for t in texts], request.long),
            )
            rows = self.new_rows(kind, len(texts))
            await self.computed(kind, tokens, rows, request.skipped)
        return Answer(rows, np.array([len(ids) for ids in tokens], np.int32), uncut)

    def new_rows(self, kind: str, texts: int) -> Any:
        """Where the results of so many texts go."""
        if kind == "vectors":
            return np.zeros((texts, self.embedder.engine.width), np.float32)
        return [None] * texts

    async def request(
        self, prompt_name: str | None, prompt: str | None, max_length: int | None, on_long: OnLong
    ) -> Request:
        """The arguments of one call, checked by the model."""
        model = self.embedder
        return await self.checked(
            model.tokenizer,
            lambda: model.request(prompt_name, prompt, None, None, max_length, on_long),
        )

    async def tokenizer(self, side: Side) -> Tokenizer:
        """The tokenizer that cuts texts at this side."""
        if side == "end":
            return self.embedder.tokenizer
        return await self.in_thread(lambda: self.from_the_end)

    @cached_property
    def apart(self) -> Tokenizer:
        """A tokenizer of its own for whole texts."""
        return own_copy(self.embedder.tokenizer)

    @cached_property
    def from_the_end(self) -> Tokenizer:
        """A tokenizer of its own that keeps the end of a text.

        Texts cannot be shortened before it reads them, so that it must not hold up the other one.
        """
        tokenizer = copy.deepcopy(self.embedder.tokenizer)
        tokenizer.side, tokenizer.shortening = "left", None
        return tokenizer


def check_side(side: Any, prefix: str) -> None:
    """Raise InputError for an unknown side, and for a prompt where the start is cut away."""
    if choice(side, "side", ("end", "start")) == "start" and prefix:
        raise InputError(
            'side="start" would cut the prompt away, which stands before the text; leave the '
            'prompt out (prompt=""), or cut at the end'
        )
