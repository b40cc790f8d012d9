"""The engine: token ids -> results, by the programs of one encoder on planned batches."""

import copy
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

import jax
import numpy as np

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import DeviceMemoryError, InputError, TextError
from jaxbert.inference.batches import Batch, BatchArrays, count
from jaxbert.inference.coarse_first import CoarseFirst
from jaxbert.inference.data_parallel import DataParallel
from jaxbert.inference.dispatched import Dispatched, right_rows, wrong_row
from jaxbert.inference.engines import AnyEngine, chosen_engine
from jaxbert.inference.forward import token_states, vectors
from jaxbert.inference.packing import FEW
from jaxbert.inference.planning import ByText, Planner, for_equal_texts
from jaxbert.inference.programs import AnyProgram, Program, on_host, run_jobs
from jaxbert.inference.snapshot import Snapshot
from jaxbert.inference.stats import Stats, StatsCounter
from jaxbert.model.head import Normalize, PoolingHead
from jaxbert.model.module import first_weight
from jaxbert.model.transformer import Transformer
from jaxbert.process.backend import backend, check_devices, computing

Model = TypeVar("Model", bound=Transformer)
# The length of rows up to which a warm-up runs a batch: the first run of a shape takes some 50 ms
# more on a CPU, which is little beside a longer text.
RUN_ONCE = 512


def shifted(first: int, members: Any) -> Any:
    """The indices in a window, of one batch or of several, as indices among all texts."""
    return first + members if isinstance(members, np.ndarray) else [first + m for m in members]


def distinct(tokens: Sequence[np.ndarray]) -> bool:
    """Whether no two of these texts are equal."""
    return len({text.tobytes() for text in tokens}) == len(tokens)


def skipped_rows(
    arrays: BatchArrays, skipped: int | np.ndarray | None
) -> tuple[()] | tuple[np.ndarray]:
    """The argument [m] that says how many tokens of each text are not pooled; none for None.

    skipped is a number for all texts, or one for each of the first of them.
    """
    if skipped is None:
        return ()
    rows = np.zeros(arrays.text_axes, np.int32)
    rows[..., : np.size(skipped) if np.ndim(skipped) else None] = skipped
    return (rows,)


class Engine(Generic[Model]):
    """Runs lists of token ids through the programs of one encoder, and counts what it does."""

    def __init__(
        self,
        encoder: Model,
        stack: Stack,
        planner: Planner | None = None,
        devices: Sequence[jax.Device] | None = None,
        kind: str | AnyEngine = "jax",
    ) -> None:
        """Put the weights on the devices and make the programs; nothing is compiled yet.

        kind is what computes (engines.py). planner None is the one that suits it, devices None the
        device that the weights are on. Raises InputError for devices of another process, and for
        what another engine than JAX cannot run.
        """
        backend()
        self.encoder = encoder  # the programs hold its weights, so these may not change
        self.given_kind, self.kind = kind, chosen_engine(kind)
        self.planner = planner or self.kind.planner(encoder)
        self.given_devices, self.stack = devices, stack
        self.devices = self.kind.devices(encoder, check_devices(devices))
        self.snapshot = Snapshot(encoder)
        self.dtype = first_weight(encoder.embeddings).dtype
        self.width = stack.width(encoder.config.hidden_size)  # of a vector, before it is truncated
        with computing():
            self.has_bias = encoder.position.bias is not None
            runner = self.kind.runner(encoder)
            head = PoolingHead(stack.pooling, stack.after)
        self.unit_length = bool(stack.after) and isinstance(stack.after[-1], Normalize)
        self.runner = runner
        self.vectors = self.devices.program(vectors, runner, head)
        self.states = self.devices.program(token_states, runner)
        first = self.devices.first
        self.pooled = Program(PoolingHead.__call__, head, placement=first, fixed_placement=first)
        self.programs: list[AnyProgram] = [self.vectors, self.states, self.pooled]
        self.choices: defaultdict[AnyProgram, CoarseFirst] = defaultdict(CoarseFirst)
        self.counter = StatsCounter()

    def copied(self, encoder: Model) -> Self:
        """An engine with the same programs and its own counter; encoder has the same arrays."""
        engine = copy.copy(self)
        engine.encoder, engine.counter = encoder, StatsCounter()
        if self.snapshot.fits(self.encoder):  # else the copy refuses to run too
            engine.snapshot = Snapshot(encoder)
        return engine

    def on(self, device: jax.Device) -> Self:
        """An engine of the same encoder on one device, with programs of its own; one counter."""
        engine = type(self)(self.encoder, self.stack, self.planner, [device], self.given_kind)
        engine.counter = self.counter
        return engine

    def program(self, function: Callable[..., jax.Array], *fixed: Any) -> AnyProgram:
        """A further program of function(encoder, *fixed, batch), which `stats` counts too."""
        program = self.devices.program(function, self.runner, *fixed)
        self.programs.append(program)
        return program

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled or read from the cache so far."""
        return sum(program.compilations for program in self.programs)

    @property
    def stats(self) -> Stats:
        """The counts and times of everything that this engine has run."""
        seconds = sum(program.seconds for program in self.programs)
        return dataclasses.replace(
            self.counter.total, compilations=self.compilations, compile_seconds=seconds
        )

    def run(
        self,
        program: AnyProgram,
        windows: Iterable[list[np.ndarray]],
        batch_size: int | None = None,
        skipped: int | np.ndarray | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(indices of texts [m], their results [m, ...]) in the order in which they were computed.

        windows are lists of the ids [t_i] of consecutive texts; the next one is taken while the
        device computes. program is `vectors`, with results [width], or `states`, with results
        [t, d]; skipped, which `vectors` takes, is the number of tokens at the start of each text
        that are not pooled. Raises ComputationError for a result that cannot be right, TextError
        for ids that the encoder does not have.
        """
        self.check_unchanged()
        jobs = self.jobs(windows, batch_size, self.choices[program])

        def begin(arrays: BatchArrays) -> Any:
            return program(arrays, *skipped_rows(arrays, skipped))

        for members, results in run_jobs(begin, jobs, ahead=self.devices.ahead):
            for texts, rows in self.devices.rows(members, results):
                self.check_rows(texts, rows, self.gives_unit(program))
                yield texts, rows

    def dispatch(
        self,
        program: AnyProgram,
        batch: Batch,
        tokens: Sequence[np.ndarray],
        skipped: Sequence[int] | None = None,
    ) -> Dispatched:
        """One batch of a plan on its way: the results of batch.members, in that order.

        tokens are the ids of all texts of the plan, which `check_tokens` has seen, skipped for
        `vectors` the number of tokens of each that are not pooled. For an engine of one device.
        Raises DeviceMemoryError, and InputError as `run`.
        """
        self.check_unchanged()
        assert not isinstance(self.devices, DataParallel), "a batch alone is for one device"
        self.admit([batch], sum(count(tokens[i]) for i in batch.members))
        arrays = batch.fill(tokens)
        own = None if skipped is None else np.array([skipped[i] for i in batch.members], np.int32)
        result = program(arrays, *skipped_rows(arrays, own))
        return Dispatched(len(batch.members), result, self.gives_unit(program))

    def gives_unit(self, program: AnyProgram) -> bool:
        """Whether the results of a program have length one."""
        return program is self.vectors and self.unit_length

    def check_unchanged(self) -> None:
        """Raise InputError if the encoder's weights are no longer those that the programs hold."""
        if not self.snapshot.fits(self.encoder):
            raise InputError(
                "the encoder was changed after this model was made, which would run the old "
                "weights; make the model anew, such as "
                "Embedder(embedder.encoder, embedder.tokenizer, embedder.stack)"
            )

    def check_rows(self, members: np.ndarray, rows: np.ndarray, unit: bool) -> None:
        """Raise ComputationError for a row that is not finite, or with `unit` not of length one."""
        right = right_rows(rows, unit)
        if not right.all():
            row = int(np.argmin(right))
            raise wrong_row(int(members[row]), rows[row])

    def jobs(
        self,
        windows: Iterable[list[np.ndarray]],
        batch_size: int | None,
        choice: CoarseFirst,
    ) -> Iterator[tuple[Any, BatchArrays]]:
        """(indices of texts [m], arrays) of each batch, or of one batch for each device."""
        first = 0
        for tokens in windows:
            self.check_tokens(tokens, first)
            counts = [count(text) for text in tokens]
            usual = len(tokens) > FEW.texts or distinct(tokens)
            planner = self.planner if usual else for_equal_texts(self.planner)
            batches = choice.plan(planner, counts, batch_size, self.fits)
            self.admit(batches, sum(counts))
            for members, arrays in self.devices.jobs(batches, tokens):
                yield shifted(first, members), arrays
            first += len(tokens)

    def admit(self, batches: Sequence[Batch], tokens: int) -> None:
        """Count batches of so many tokens that are about to run; DeviceMemoryError for too large.

        They are counted if memory holds each of them.
        """
        self.check_all(batches)
        slots = sum(batch.rows * batch.length for batch in batches)
        self.counter.add(tokens=tokens, slots=slots, batches=len(batches))

    def check_all(self, batches: Sequence[Batch]) -> None:
        """Raise DeviceMemoryError for batches of which the device cannot hold one."""
        for shape in {(batch.rows, batch.length) for batch in batches}:
            self.check_memory(*shape)

    def fits(self, batches: Sequence[Batch]) -> bool:
        """Whether the device can hold each of these batches."""
        try:
            self.check_all(batches)
        except DeviceMemoryError:
            return False
        return True

    def check_tokens(self, tokens: Sequence[np.ndarray], first: int = 0) -> None:
        """Raise TextError for an id outside the vocabulary, or more tokens than positions."""
        limit, known = self.encoder.position.limit, self.encoder.config.vocab_size
        for text, ids in enumerate(tokens, start=first):
            if limit is not None and count(ids) > limit:
                raise TextError(
                    text,
                    f"has {count(ids)} tokens, but this model learned positions for {limit} only; "
                    f"truncate to {limit} (max_length) or use a model with ALiBi",
                )
            if ids.size and (highest := int(ids.max())) >= known:
                raise TextError(
                    text,
                    f"has the token id {highest}, but the model has {known} tokens: tokenizer and "
                    "weights are of different models",
                )

    def check_memory(self, rows: int, length: int) -> None:
        """Raise DeviceMemoryError for a batch that the device cannot hold."""
        self.kind.check_memory(self.encoder, rows, length, self.has_bias, self.devices.first)

    def pool(self, states: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> np.ndarray:
        """The vectors [n, width] of n > 0 arrays of states [t_i, d], pooled where masks are true.

        The shape of a batch depends on each t_i alone, so that the same states give the same bits.
        """
        vectors: dict[int, np.ndarray] = {}
        width = states[0].shape[1]
        for batch in ByText().plan([len(x) for x in states]):
            x = np.zeros((batch.rows, batch.length, width), np.float32)
            mask = np.zeros((batch.rows, batch.length), bool)
            for row, member in enumerate(batch.members):
                x[row, : len(states[member])] = states[member]
                mask[row, : len(states[member])] = masks[member]
            rows = on_host(self.pooled(x, mask))[: len(batch.members)]
            self.check_rows(batch.members, rows, self.unit_length)
            vectors |= {int(member): rows[row] for row, member in enumerate(batch.members)}
        return np.stack([vectors[i] for i in range(len(states))])

    def warmup(self, longest: int) -> int:
        """Compile the usual shapes for texts of up to `longest` tokens; how many were new."""
        return self.prepare(self.vectors, self.planner.usual(longest))

    def prepare(self, program: AnyProgram, batches: Sequence[Batch], typed: bool = False) -> int:
        """Compile a program for the shapes of empty batches; how many were new.

        Batches up to RUN_ONCE tokens long run once as well, since XLA prepares more in the first
        run of a shape. typed says whether its texts come with types.
        """
        start, before = time.perf_counter(), self.compilations
        for batch in batches:
            self.check_memory(batch.rows, batch.length)
            for _, untyped in self.devices.jobs([batch], []):
                types = np.zeros_like(untyped.ids) if typed else None
                arrays = untyped._replace(types=types)
                own = skipped_rows(arrays, 0 if self.pools(program) else None)
                known = program.compilations
                program.compile(arrays, *own)
                if batch.length <= RUN_ONCE and program.compilations > known:
                    on_host(program(arrays, *own))
        self.choices[program].know(batches)
        self.counter.add(seconds=time.perf_counter() - start)
        return self.compilations - before

    def prepare_pool(self, longest: int) -> int:
        """Compile what `pool` needs for up to `longest` states of a text; how many were new."""
        start, before = time.perf_counter(), self.compilations
        width = self.encoder.config.hidden_size
        for batch in ByText().usual(longest):
            shape = (batch.rows, batch.length)
            self.pooled.compile(np.zeros((*shape, width), np.float32), np.zeros(shape, bool))
        self.counter.add(seconds=time.perf_counter() - start)
        return self.compilations - before

    def pools(self, program: AnyProgram) -> bool:
        """Whether a program takes the number of tokens that are not pooled."""
        return program is self.vectors
