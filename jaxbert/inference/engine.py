"""Tokens -> rows of results: an encoder, the planner of its batches, and what it does with them."""

import copy
import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

import jax
import numpy as np

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import ComputationError, InputError, TextError
from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.data_parallel import devices_for
from jaxbert.inference.forward import token_states, vectors
from jaxbert.inference.memory import check_memory
from jaxbert.inference.planning import ByText, Planner, by_length
from jaxbert.inference.programs import Program, on_host, run_jobs
from jaxbert.inference.snapshot import Snapshot
from jaxbert.inference.stats import Stats, StatsCounter
from jaxbert.inference.unrolled import unrolled_where_faster
from jaxbert.model.head import Normalize, PoolingHead
from jaxbert.model.transformer import Transformer
from jaxbert.process.backend import backend, check_devices, computing

Model = TypeVar("Model", bound=Transformer)

# How far from 1 the length of a vector may be behind a Normalize module: rounding gives 1e-6 at
# most, a zero vector, which has no direction, gives 1.
UNIT = 1e-3


def numbered_from(first: int, members: Any) -> Any:
    """Indices of texts in a window -> those in all windows; of one batch, or of several at once."""
    return first + members if isinstance(members, np.ndarray) else [first + own for own in members]


class Engine(Generic[Model]):
    """Runs lists of token ids through the programs of one encoder, and counts what it does."""

    def __init__(
        self,
        encoder: Model,
        stack: Stack,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """None: the planner that suits the backend, and the device that the weights are on.

        Raises InputError for devices that are not this process's.
        """
        platform = backend()
        self.encoder = encoder  # its weights stay as they are: the compiled programs hold them
        self.planner = planner or by_length(platform, encoder.position.limit)
        self.given_devices = devices
        self.devices = devices_for(check_devices(devices), encoder.embeddings.word[...])
        self.snapshot = Snapshot(encoder)
        self.width = stack.width(encoder.config.hidden_size)  # of a vector, before it is truncated
        with computing():
            runs = unrolled_where_faster(encoder, platform)
            head = PoolingHead(stack.pooling, stack.after)
        self.unit_length = bool(stack.after) and isinstance(stack.after[-1], Normalize)
        self.vectors = self.devices.program(vectors, runs, head)
        self.states = self.devices.program(token_states, runs)
        first = self.devices.first
        self.pooled = Program(PoolingHead.__call__, head, place=first, fixed_place=first)
        self.counter = StatsCounter()

    def copied(self, encoder: Model) -> Self:
        """An engine that shares the programs and counts for itself; encoder has the same arrays."""
        own = copy.copy(self)
        own.encoder, own.counter = encoder, StatsCounter()
        if self.snapshot.of(self.encoder):  # else the copy refuses to run too
            own.snapshot = Snapshot(encoder)
        return own

    @property
    def programs(self) -> tuple[Program, ...]:
        """Texts to vectors, texts to token states, token states to vectors."""
        return self.vectors, self.states, self.pooled

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled, or read from the cache, so far."""
        return sum(program.compilations for program in self.programs)

    @property
    def stats(self) -> Stats:
        """What has been done so far."""
        seconds = sum(program.seconds for program in self.programs)
        return dataclasses.replace(
            self.counter.total, compilations=self.compilations, compile_seconds=seconds
        )

    def run(
        self,
        program: Program,
        windows: Iterable[list[np.ndarray]],
        batch_size: int | None = None,
        *extra: np.ndarray,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts [m], their results [m, ...]) in the order in which they were computed.

        windows are lists of the ids [t_i] of texts that follow one another; the next is asked for
        while the device has the last. program is `vectors`, with results [width], or `states`, with
        results [t, d]; extra are the arrays that it takes beside a batch. Raises ComputationError
        for a result that cannot be right, TextError for ids that the encoder does not have.
        """
        self.check_unchanged()
        extra = tuple(map(self.devices.extra, extra))
        for members, results in run_jobs(program, self.jobs(windows, batch_size), *extra):
            for own, rows in self.devices.rows(members, results):
                self.check_rows(own, rows, program is self.vectors and self.unit_length)
                yield own, rows

    def check_unchanged(self) -> None:
        """Refuse an encoder whose weights are no longer those that the programs hold."""
        if not self.snapshot.of(self.encoder):
            raise InputError(
                "the encoder was changed after this Embedder was made, which would run the old "
                "weights; make Embedder(embedder.encoder, embedder.tokenizer, embedder.stack) anew"
            )

    def check_rows(self, members: np.ndarray, rows: np.ndarray, unit: bool) -> None:
        """Refuse results that are not finite, or have no length one where they must."""
        finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        if not finite.all():
            text = int(members[np.argmin(finite)])
            raise ComputationError(f"text {text}", text)
        if unit:
            is_unit = np.abs(np.linalg.norm(rows, axis=1) - 1.0) < UNIT
            if not is_unit.all():
                row = int(np.argmin(is_unit))
                length, text = np.linalg.norm(rows[row]), int(members[row])
                fault = f"has the length {length:.3g} behind a Normalize module, not 1"
                raise ComputationError(f"text {text}", text, fault)

    def jobs(
        self, windows: Iterable[list[np.ndarray]], batch_size: int | None
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(indices of texts [m], the arrays of their batch) of what runs at once."""
        first = 0
        for tokens in windows:
            self.check_tokens(tokens, first)
            counts = [len(ids) for ids in tokens]
            batches = self.planner.plan(counts, batch_size)
            for shape in {(batch.rows, batch.length) for batch in batches}:
                self.check_memory(*shape)
            self.counter.add(
                tokens=sum(counts),
                slots=sum(batch.rows * batch.length for batch in batches),
                batches=len(batches),
            )
            for members, arrays in self.devices.jobs(batches, tokens):
                yield numbered_from(first, members), arrays
            first += len(tokens)

    def check_tokens(self, tokens: Sequence[np.ndarray], first: int = 0) -> None:
        """Refuse ids that the vocabulary, and lengths that the positions do not have."""
        limit, known = self.encoder.position.limit, self.encoder.config.vocab_size
        for text, ids in enumerate(tokens, start=first):
            if limit is not None and len(ids) > limit:
                raise TextError(
                    text,
                    f"has {len(ids)} tokens, but this model learned positions for {limit} only; "
                    f"truncate to {limit} (max_length) or use a model with ALiBi",
                )
            if ids.size and (highest := int(ids.max())) >= known:
                raise TextError(
                    text,
                    f"has the token id {highest}, but the model has {known} tokens: tokenizer and "
                    "weights are of different models",
                )

    def check_memory(self, rows: int, length: int) -> None:
        """Refuse a batch that the device cannot hold."""
        encoder = self.encoder
        device = self.devices.first
        check_memory(encoder.config, encoder.attention, encoder.dtype, rows, length, device)

    def pool(self, parts: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
        """States [t_i, d] of n > 0 parts, pooled where masks [t_i] are true: float32 [n, width].

        Shapes depend on each t_i alone, so that the same states give the same bits.
        """
        vectors: dict[int, np.ndarray] = {}
        width = parts[0].shape[1]
        for batch in ByText().plan([len(part) for part in parts]):
            x = np.zeros((batch.rows, batch.length, width), np.float32)
            mask = np.zeros((batch.rows, batch.length), bool)
            for row, member in enumerate(batch.members):
                x[row, : len(parts[member])] = parts[member]
                mask[row, : len(parts[member])] = masks[member]
            rows = on_host(self.pooled(x, mask))[: len(batch.members)]
            self.check_rows(batch.members, rows, self.unit_length)
            vectors |= {int(member): rows[row] for row, member in enumerate(batch.members)}
        return np.stack([vectors[i] for i in range(len(parts))])

    def warmup(self, longest: int) -> int:
        """Compile what texts of up to so many tokens usually need; how many shapes were new."""
        start, before = time.perf_counter(), self.compilations
        for batch in self.planner.usual(longest):
            self.check_memory(batch.rows, batch.length)
            skipped = self.devices.extra(np.array(0, np.int32))
            for _, arrays in self.devices.jobs([batch], []):
                self.vectors.compile(arrays, skipped)
        self.counter.add(seconds=time.perf_counter() - start)
        return self.compilations - before
