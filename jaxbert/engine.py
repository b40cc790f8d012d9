"""Tokens -> rows of results: an encoder, the planner of its batches, and what it does with them."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.batches import Filled
from jaxbert.batching import ByText, Planner, by_length
from jaxbert.encoder import Encoder
from jaxbert.errors import ComputationError, InputError
from jaxbert.inputs import check_length
from jaxbert.memory import check_memory
from jaxbert.model.axes import Hidden, Mask
from jaxbert.model.head import PoolingHead
from jaxbert.model.transformer import Inputs
from jaxbert.runner import Program, Stats, Tally, run
from jaxbert.spread import spread, stacks
from jaxbert.stack import Stack
from jaxbert.unrolled import Unrolled


def cut(hidden: Hidden, places: jax.Array) -> tuple[Hidden, Mask]:
    """Rows [b, t, d] that several texts share -> a row per text [m, u, d], and where it has tokens.

    places [m, u] are indices into b * t, -1 beyond the end of a text.
    """
    flat = hidden.reshape(-1, hidden.shape[-1]).at[places]
    own = flat.get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return own, places >= 0


def states(encoder: Encoder | Unrolled, batch: Filled) -> tuple[Hidden, Mask]:
    """A batch of m texts -> its last states, a row per text [m, t, d], and where it has tokens."""
    ids, segments, positions = map(jnp.asarray, batch[:3])
    hidden = encoder.forward(Inputs(ids, segments, jnp.zeros_like(ids), positions))
    return (
        (hidden, segments != 0) if batch.places is None else cut(hidden, jnp.asarray(batch.places))
    )


def vectors(
    encoder: Encoder | Unrolled, head: PoolingHead, batch: Filled, skipped: jax.Array
) -> jax.Array:
    """A batch of m texts -> [m, d]; the first `skipped` tokens of a text are not pooled."""
    hidden, mask = states(encoder, batch)
    return head(hidden, mask & (jnp.arange(mask.shape[1])[None, :] >= skipped))


def token_states(encoder: Encoder | Unrolled, batch: Filled) -> jax.Array:
    """A batch of m texts -> the states of all tokens [m, t, d] in float32."""
    return states(encoder, batch)[0].astype(jnp.float32)


class Engine:
    """Runs lists of token ids through the programs of one encoder, and counts what it does."""

    def __init__(
        self,
        encoder: Encoder,
        stack: Stack,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """None: the planner that suits the backend, and the backend's first device."""
        self.encoder = encoder  # read-only: the compiled programs hold it
        backend = jax.default_backend()
        self.planner = planner or by_length(backend, encoder.position.limit)
        scans = type(encoder).forward is Encoder.forward  # else it computes something of its own
        runs = Unrolled(encoder) if backend == "cpu" and scans else encoder
        head = PoolingHead(stack.pooling, stack.after)
        self.devices = devices if devices is not None and len(devices) > 1 else None
        if self.devices is None:
            self.vectors, self.states = Program(vectors, runs, head), Program(token_states, runs)
        else:
            self.vectors = spread(vectors, self.devices, runs, head)
            self.states = spread(token_states, self.devices, runs)
        self.pooled = Program(PoolingHead.__call__, head)
        self.tally = Tally()

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
            self.tally.total, compilations=self.compilations, compile_seconds=seconds
        )

    def run(
        self,
        program: Program,
        windows: Iterable[list[np.ndarray]],
        batch_size: int | None = None,
        *extra: np.ndarray,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts, their rows of results) in the order in which they were computed.

        windows are the ids of texts that follow one another; the next is asked for while the device
        has the last. Raises ComputationError for a result that is not finite.
        """
        for members, rows in self.results(program, self.jobs(windows, batch_size), *extra):
            whole = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
            if not whole.all():
                text = int(members[~whole][0])
                raise ComputationError(f"text {text}", text)
            yield members, rows

    def results(
        self, program: Program, jobs: Iterator[tuple[Any, Filled]], *extra: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts, their rows) of each batch."""
        if self.devices is None:
            yield from run(program, jobs, *extra)
            return
        extra = tuple(np.stack([array] * len(self.devices)) for array in extra)
        for stacked, results in run(program, jobs, *extra):
            for members, rows in zip(stacked, results, strict=True):
                yield members, rows[: len(members)]

    def jobs(
        self, windows: Iterable[list[np.ndarray]], batch_size: int | None
    ) -> Iterator[tuple[Any, Filled]]:
        """(indices of texts, their arrays) of each batch; with devices, lists of the former."""
        first = 0
        for tokens in windows:
            self.check_tokens(tokens)
            counts = [len(ids) for ids in tokens]
            batches = self.planner.plan(counts, batch_size)
            for shape in {(batch.rows, batch.length) for batch in batches}:
                self.check_memory(*shape)
            self.tally.add(
                tokens=sum(counts),
                slots=sum(batch.rows * batch.length for batch in batches),
                batches=len(batches),
            )
            if self.devices is None:
                for batch in batches:
                    yield first + batch.members, batch.fill(tokens)
            else:
                for members, filled in stacks(batches, tokens, len(self.devices)):
                    yield [first + own for own in members], filled
            first += len(tokens)

    def check_tokens(self, tokens: Sequence[np.ndarray]) -> None:
        """Refuse ids that the vocabulary, and lengths that the positions do not have."""
        limit = self.encoder.position.limit
        most = max(map(len, tokens), default=0)
        if limit is not None and most > limit:
            check_length(np.array([most - 1]), limit)
        highest = max((int(ids.max()) for ids in tokens if ids.size), default=0)
        if highest >= self.encoder.config.vocab_size:
            raise InputError(
                f"the tokenizer gives id {highest}, but the model has "
                f"{self.encoder.config.vocab_size} tokens: they are of different models"
            )

    def check_memory(self, rows: int, length: int) -> None:
        """Refuse a batch that the device cannot hold."""
        encoder = self.encoder
        dtype = encoder.dtype
        check_memory(encoder.config, encoder.attention, dtype, rows, length)

    def pool(self, parts: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
        """States [t_i, d] of n > 0 parts, pooled where masks [t_i] are true: float32 [n, width].

        Shapes depend on each t_i alone, so that the same states give the same bits.
        """
        found: dict[int, np.ndarray] = {}
        width = parts[0].shape[1]
        for batch in ByText().plan([len(part) for part in parts]):
            x = np.zeros((batch.rows, batch.length, width), np.float32)
            mask = np.zeros((batch.rows, batch.length), bool)
            for row, member in enumerate(batch.members):
                x[row, : len(parts[member])] = parts[member]
                mask[row, : len(parts[member])] = masks[member]
            rows = np.asarray(self.pooled(x, mask))
            found |= {int(member): rows[row] for row, member in enumerate(batch.members)}
        return np.stack([found[i] for i in range(len(parts))])

    def warmup(self, longest: int) -> int:
        """Compile what texts of up to so many tokens usually need; how many shapes were new."""
        start, before = time.perf_counter(), self.compilations
        for batch in self.planner.usual(longest):
            self.check_memory(batch.rows, batch.length)
            filled, skipped = batch.fill([]), np.array(0, np.int32)
            if self.devices is not None:
                (_, filled), *_ = stacks([batch], [], len(self.devices))
                skipped = np.stack([skipped] * len(self.devices))
            self.vectors.compile(filled, skipped)
        self.tally.add(seconds=time.perf_counter() - start)
        return self.compilations - before
