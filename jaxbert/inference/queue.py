"""Embedder and CrossEncoder for many callers at once: their requests wait in one queue.

    queue = AsyncEmbedder(embedder)
    answer = await queue.encode(["a text", "another"])

Requests share batches, so that a hundred callers of one text each are served almost as fast as one
caller with a hundred texts. On a CPU, set jax_cpu_enable_async_dispatch to False before JAX starts:
else a long text holds up the short ones.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, Protocol

import numpy as np

from jaxbert.arguments import array, as_list, choice, integer
from jaxbert.errors import InputError, InputTypeError, TextError, shown
from jaxbert.inference.engine import Engine
from jaxbert.inference.forward import logits
from jaxbert.inference.model_queue import ModelQueue, computers_of
from jaxbert.inference.outputs import LongTexts
from jaxbert.inference.pair_request import PairRequest
from jaxbert.inference.prefetch import WindowSize, spans
from jaxbert.inference.programs import AnyProgram
from jaxbert.inference.request import Request, errors_numbered_from
from jaxbert.inference.scoring import Activation, activated, check_order, named_activation
from jaxbert.inference.waiting import Listener
from jaxbert.text.chunking import TokenSpans, checked_spans, token_windows
from jaxbert.text.shortening import TOKENS_PER_CHARACTER
from jaxbert.text.tokenizer import Tokenizer

OnLong = Literal["truncate", "error"]
Side = Literal["end", "start"]

# What is tokenised at a time: others, and the event loop, may tokenise between two windows.
WINDOW = WindowSize(256, 2**16)
# Tokens up to which those of a text that is cut are counted; beyond, at least so many is known.
COUNTED = 2048


@dataclass(frozen=True)
class Answer:
    """The rows of a request's texts, in their order, and how many tokens each text has."""

    rows: Any  # [n, d] float32 of vectors, [n] of scores, a list of [t, d] of states
    tokens: np.ndarray  # [n] int32: those computed, special ones included
    # [n] int32: those before the text was cut; of a text beyond 2048 tokens and twice the maximum
    # at least so many. More than `tokens` always says that it was cut.
    uncut: np.ndarray


class AnyEmbedder(Protocol):
    """What an AsyncEmbedder needs of an Embedder, which a room further on defines."""

    engine: Engine[Any]
    tokenizer: Tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text."""

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
        on_long: Any,
    ) -> Request:
        """The arguments of a call, checked."""


class AnyCrossEncoder(Protocol):
    """What an AsyncCrossEncoder needs of a CrossEncoder, which a room further on defines."""

    engine: Engine[Any]
    scores: AnyProgram
    settings: Any
    tokenizer: Tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a pair."""

    @property
    def head(self) -> Any:
        """The classifier."""

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
    ) -> PairRequest:
        """The arguments of a call, checked."""


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
    ) -> None:
        """Start the threads that compute; `close` ends them.

        A request is refused (QueueFullError) while work for more than max_wait seconds waits, and
        fails (QueueTimeoutError) if some of its texts have waited for `timeout` seconds. Texts of
        more than `long` tokens have threads of their own on a CPU. An Embedder on several devices
        has a thread for each, all of which take from one queue. Raises InputTypeError, InputError.
        """
        check_model(embedder, "Embedder", ("request", "encode_chunks"))
        self.embedder = embedder
        super().__init__(
            computers_of(
                embedder.engine, lambda own: {"vectors": own.vectors, "states": own.states}
            ),
            max_wait=max_wait,
            timeout=timeout,
            long=long,
            listener=listener,
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
        found = await self.answered("vectors", texts, prompt_name, prompt, max_length, on_long, side)
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
        """The last states [t, d] of all tokens of each text; the arguments are those of `encode`."""
        found = await self.answered("states", texts, prompt_name, prompt, max_length, on_long, side)
        return found

    async def encode_ids(self, ids: Sequence[Any]) -> Answer:
        """The vectors [n, width] of texts given as token ids, special tokens included.

        Raises TextError for a text without ids, with ids that the model has not, or of more than
        max_seq_length tokens; nothing is cut.
        """
        given = [checked_ids(i, row, self.embedder.max_seq_length) for i, row in enumerate(ids)]
        self.embedder.request(None, "", None, None, None, "error")  # not forked
        with self.admitted([len(row) for row in given]):
            counts = np.array([len(row) for row in given], np.int32)
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
        parts = as_list(parts, "parts")
        request = self.embedder.request(prompt_name, prompt, None, None, max_length, "truncate")
        ends = [0, *accumulate(map(len, parts))]
        text, places = "".join(parts), list(zip(ends, ends[1:], strict=False))
        chunks = checked_spans(0, len(text), places)
        with self.admitted([len(text)]):
            (tokens,) = await self.tokenised(
                [len(text)], lambda: request.tokenizer.detailed([request.prefix + text])
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
        if states:
            new += await self.prepared("states", longest)
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
        request = self.embedder.request(prompt_name, prompt, None, None, max_length, on_long)
        tokenizer = self.tokenizer(side, request.prefix)
        characters = [len(request.prefix) + len(text) for text in texts]
        with self.admitted(characters):
            tokens, uncut = await self.tokenised(
                characters,
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

    def tokenizer(self, side: Side, prefix: str) -> Tokenizer:
        """The tokenizer that cuts texts at this side.

        Raises InputError for side="start" with a prompt, which would be cut away first.
        """
        if choice(side, "side", ("end", "start")) == "end":
            return self.embedder.tokenizer
        if prefix:
            raise InputError(
                'side="start" would cut the prompt away, which stands before the text; leave the '
                'prompt out (prompt=""), or cut at the end'
            )
        return self.from_the_end

    @cached_property
    def from_the_end(self) -> Tokenizer:
        """A tokenizer of its own that keeps the end of a text.

        Texts cannot be shortened before it reads them, so that it must not hold up the other one.
        """
        tokenizer = copy.deepcopy(self.embedder.tokenizer)
        tokenizer.side, tokenizer.shortening = "left", None
        return tokenizer


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
    ) -> None:
        """Start the threads that compute; the arguments are those of AsyncEmbedder."""
        check_model(cross_encoder, "CrossEncoder", ("request", "rank"))
        self.cross_encoder = cross_encoder
        super().__init__(
            computers_of(cross_encoder.engine, self.programs),
            max_wait=max_wait,
            timeout=timeout,
            long=long,
            listener=listener,
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
        activation_fn: str | Activation | None = None,
    ) -> Answer:
        """The scores [n] of the query with each document, as `CrossEncoder.predict` gives them.

        The arguments are those of `CrossEncoder.rank`; tokens are those of the pairs. Raises
        InputError for a model of more than one label, and as `AsyncEmbedder.encode`.
        """
        model = self.cross_encoder
        check_order(model.settings.labels)
        (query,), documents = as_list([query], "query"), as_list(documents, "documents")
        name = model.settings.activation_name if activation_fn is None else activation_fn
        activate = named_activation(name)
        request = model.request(prompt_name, prompt, None, None, max_length)
        characters = [len(request.prefix) + len(query) + len(text) for text in documents]
        with self.admitted(characters):
            tokens, uncut = await self.tokenised(
                characters, lambda: cut_pairs(request, query, documents)
            )
            rows = np.zeros((len(documents), request.labels), np.float32)
            await self.computed("scores", tokens, rows)
        counts = np.array([ids.shape[-1] for ids in tokens], np.int32)
        return Answer(activated(rows, activate)[:, 0], counts, uncut)

    async def warmup(self, max_length: int | None = None) -> int:
        """Compile all that pairs of up to max_length tokens can need; how many shapes were new.

        None: 512, or max_seq_length if less.
        """
        most = self.cross_encoder.max_seq_length
        longest = min(most, 512) if max_length is None else integer(max_length, "max_length", 1)
        return await self.prepared("scores", longest)


def check_model(model: Any, name: str, methods: Sequence[str]) -> None:
    """Raise InputTypeError for what is no model of this kind."""
    whole = isinstance(getattr(model, "engine", None), Engine)
    if not whole or isinstance(model, type) or not all(hasattr(model, m) for m in methods):
        raise InputTypeError(f"a queue of this kind is for models; pass a {name}, not {shown(model)}")


def checked_ids(text: int, ids: Any, most: int) -> np.ndarray:
    """The ids [t] of a text as int32. Raises InputTypeError and TextError."""
    found = array(ids, "ids")
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise InputTypeError(f"the ids of text {text} are no list of integers")
    if not 0 < found.size <= most:
        raise TextError(text, f"has {found.size} ids; pass from 1 to {most} (max_seq_length)")
    if found.min() < 0 or found.max() >= 2**31:
        raise TextError(text, f"has the token id {found.min()}; ids begin with 0")
    return found.astype(np.int32)


def cut(
    tokenizer: Tokenizer, texts: Sequence[str], long: LongTexts
) -> tuple[list[np.ndarray], np.ndarray]:
    """(ids of each text, cut to long.most tokens; tokens [n] that each had before, as Answer says).

    Raises InputError for a text that is cut, where it says so.
    """
    tokens: list[np.ndarray] = []
    before: dict[int, int] = {}

    def note(text: int, count: int) -> None:
        before[text] = count
        if long.listens:
            long(text, count)

    for first, last in spans([len(text) for text in texts], WINDOW):
        with errors_numbered_from(first):
            window = tokenizer.beginnings(texts[first:last], max(2 * long.most, COUNTED))
            tokens += tokenizer(window, long.most, lambda i, count, at=first: note(at + i, count))
    return tokens, np.array([before.get(i, len(ids)) for i, ids in enumerate(tokens)], np.int32)


def cut_pairs(
    request: PairRequest, query: str, documents: Sequence[str]
) -> tuple[list[np.ndarray], np.ndarray]:
    """(tokens of the query with each document, cut; how many [n] each had before)."""
    tokenizer, first_text, most = request.tokenizer, request.prefix + query, request.most
    texts, counted = list(documents), max(2 * most, COUNTED)
    tokens: list[np.ndarray] = []
    # Else it would depend on what is left out which of the two is the longer one, that is cut.
    if len(first_text) * TOKENS_PER_CHARACTER <= counted:
        texts = tokenizer.beginnings(texts, counted)
    for first, last in spans([len(text) for text in texts], WINDOW):
        with errors_numbered_from(first):
            pairs = [(first_text, text) for text in texts[first:last]]
            tokens += tokenizer.pairs(pairs, most, request.typed)
    uncut = np.array([ids.shape[-1] for ids in tokens], np.int32)
    full = np.flatnonzero(uncut >= most)
    if full.size:
        one, *others = map(len, tokenizer([first_text, *(texts[i] for i in full)]))
        uncut[full] = one + np.array(others) + tokenizer.beside_pair
    return tokens, uncut
