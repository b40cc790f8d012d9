"""Tokens -> rows of results: an encoder, the planner of its batches, and what it does with them."""

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import ComputationError, TextError
from jaxbert.inference.batches import Filled
from jaxbert.inference.data_parallel import devices_for
from jaxbert.inference.memory import check_memory
from jaxbert.inference.planning import ByText, Planner, by_length
from jaxbert.inference.runner import Program, Stats, Tally, on_host, run
from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.axes import Hidden, Mask
from jaxbert.model.head import Normalize, PoolingHead
from jaxbert.model.transformer import Inputs, Transformer
from jaxbert.process.backend import backend, check_devices, computing

Model = TypeVar("Model", bound=Transformer)

# How far from 1 the length of a vector may be behind a Normalize module: rounding gives 1e-6 at
# most, a zero vector, which has no direction, gives 1.
UNIT = 1e-3


def cut(hidden: Hidden, places: jax.Array) -> tuple[Hidden, Mask]:
    """Rows [b, t, d] that several texts share -> a row per text [m, u, d], and where it has tokens.

    places [m, u] are indices into b * t, -1 beyond the end of a text.
    """
    flat = hidden.reshape(-1, hidden.shape[-1]).at[places]
    own = flat.get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return own, places >= 0


def states(encoder: Transformer | Unrolled, batch: Filled) -> tuple[Hidden, Mask]:
    """A batch of m texts -> its last states, a row per text [m, t, d], and where it has tokens."""
    ids, segments, positions = map(jnp.asarray, batch[:3])
    hidden = encoder.forward(Inputs(ids, segments, jnp.zeros_like(ids), positions))
    return (
        (hidden, segments != 0) if batch.places is None else cut(hidden, jnp.asarray(batch.places))
    )


def vectors(
    encoder: Transformer | Unrolled, head: PoolingHead, batch: Filled, skipped: jax.Array
) -> jax.Array:
    """A batch of m texts -> [m, d]; the first `skipped` tokens of a text are not pooled."""
    hidden, mask = states(encoder, batch)
    places = jnp.arange(mask.shape[1], dtype=jnp.int32)[None, :]
    return head(hidden, mask & (places >= skipped))


def moved(members: Any, first: int) -> Any:
    """Indices of texts in a window -> those in all windows; of one batch, or of several at once."""
    return first + members if isinstance(members, np.ndarray) else [first + own for own in members]


def token_states(encoder: Transformer | Unrolled, batch: Filled) -> jax.Array:
    """A batch of m texts -> the states of all tokens [m, t, d] in float32."""
    return states(encoder, batch)[0].astype(jnp.float32)


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
        self.encoder = encoder  # read-only: the compiled programs hold it
        self.planner = planner or by_length(platform, encoder.position.limit)
        self.given_devices = devices
        self.devices = devices_for(check_devices(devices), encoder.embeddings.word[...])
        scans = (
            type(encoder).forward is Transformer.forward
        )  # else it computes something of its own
        with computing():
            runs = Unrolled(encoder) if platform == "cpu" and scans else encoder
            head = PoolingHead(stack.pooling, stack.after)
        self.unit_length = bool(stack.after) and isinstance(stack.after[-1], Normalize)
        self.vectors = self.devices.program(vectors, runs, head)
        self.states = self.devices.program(token_states, runs)
        first = self.devices.first
        self.pooled = Program(PoolingHead.__call__, head, place=first, fixed_place=first)
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
        has the last. Raises ComputationError for a result that cannot be right, TextError for ids
        that the encoder does not have.
        """
        extra = tuple(map(self.devices.extra, extra))
        for members, results in run(program, self.jobs(windows, batch_size), *extra):
            for own, rows in self.devices.rows(members, results):
                self.check_rows(own, rows, program is self.vectors and self.unit_length)
                yield own, rows

    def check_rows(self, members: np.ndarray, rows: np.ndarray, unit: bool) -> None:
        """Refuse results that are not finite, or have no length one where they must."""
        finite = np.isfinite(rows).all(axis=tuple(range(1, rows.ndim)))
        if not finite.all():
            text = int(members[np.argmin(finite)])
            raise ComputationError(f"text {text}", text)
        if unit:
            whole = np.abs(np.linalg.norm(rows, axis=1) - 1.0) < UNIT
            if not whole.all():
                row = int(np.argmin(whole))
                length, text = np.linalg.norm(rows[row]), int(members[row])
                fault = f"has the length {length:.3g} behind a Normalize module, not 1"
                raise ComputationError(f"text {text}", text, fault)

    def jobs(
        self, windows: Iterable[list[np.ndarray]], batch_size: int | None
    ) -> Iterator[tuple[Any, Filled]]:
        """(indices of texts, their arrays) of what runs at once."""
        first = 0
        for tokens in windows:
            self.check_tokens(tokens, first)
            counts = [len(ids) for ids in tokens]
            batches = self.planner.plan(counts, batch_size)
            for shape in {(batch.rows, batch.length) for batch in batches}:
                self.check_memory(*shape)
            self.tally.add(
                tokens=sum(counts),
                slots=sum(batch.rows * batch.length for batch in batches),
                batches=len(batches),
            )
            for members, filled in self.devices.jobs(batches, tokens):
                yield moved(members, first), filled
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
        found: dict[int, np.ndarray] = {}
        width = parts[0].shape[1]
        for batch in ByText().plan([len(part) for part in parts]):
            x = np.zeros((batch.rows, batch.length, width), np.float32)
            mask = np.zeros((batch.rows, batch.length), bool)
            for row, member in enumerate(batch.members):
                x[row, : len(parts[member])] = parts[member]
                mask[row, : len(parts[member])] = masks[member]
            rows = on_host(self.pooled(x, mask))[: len(batch.members)]
            self.check_rows(batch.members, rows, self.unit_length)
            found |= {int(member): rows[row] for row, member in enumerate(batch.members)}
        return np.stack([found[i] for i in range(len(parts))])

    def warmup(self, longest: int) -> int:
        """Compile what texts of up to so many tokens usually need; how many shapes were new."""
        start, before = time.perf_counter(), self.compilations
        for batch in self.planner.usual(longest):
            self.check_memory(batch.rows, batch.length)
            skipped = self.devices.extra(np.array(0, np.int32))
            for _, filled in self.devices.jobs([batch], []):
                self.vectors.compile(filled, skipped)
        self.tally.add(seconds=time.perf_counter() - start)
        return self.compilations - before
