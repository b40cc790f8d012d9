"""Text -> vectors: tokenise, plan batches, run, pool, put back in order."""

import dataclasses
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from tqdm import tqdm

from jaxbert import checkpoint, hub
from jaxbert.arguments import as_list, integer
from jaxbert.attention import Attend
from jaxbert.axes import Hidden, Mask
from jaxbert.batches import Filled
from jaxbert.batching import ByText, Planner, by_length
from jaxbert.encoder import Encoder
from jaxbert.errors import ComputationError, InputError, InputTypeError
from jaxbert.inputs import Inputs, check_length
from jaxbert.memory import check_memory
from jaxbert.modules import transformer_folder
from jaxbert.pooling import Head
from jaxbert.runner import Program, Stats, Tally, ahead, run, windows
from jaxbert.similarity import similarity, unit_length
from jaxbert.stack import Stack, read_stack
from jaxbert.tokenizer import Tokenizer
from jaxbert.unrolled import Unrolled

log = logging.getLogger(__name__)


def cut(hidden: Hidden, places: jax.Array) -> tuple[Hidden, Mask]:
    """Rows [b, t, d] that several texts share -> a row per text [m, u, d], and where it has tokens.

    places [m, u] are indices into b * t, -1 beyond the end of a text.
    """
    flat = hidden.reshape(-1, hidden.shape[-1]).at[places]
    own = flat.get(mode="fill", fill_value=0, wrap_negative_indices=False)
    return own, places >= 0


def vectors(
    encoder: Encoder | Unrolled, head: Head, batch: Filled, skipped: jax.Array
) -> jax.Array:
    """A batch of m texts -> [m, d]; the first `skipped` tokens of a text are not pooled."""
    ids, segments, positions = map(jnp.asarray, batch[:3])
    hidden = encoder.forward(Inputs(ids, segments, jnp.zeros_like(ids), positions))
    mask = segments != 0
    if batch.places is not None:
        hidden, mask = cut(hidden, jnp.asarray(batch.places))
    return head(hidden, mask & (jnp.arange(mask.shape[1])[None, :] >= skipped))


class Embedder:
    """An encoder, its tokenizer and the stack that a model's folder puts behind it."""

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, stack: Stack, planner: Planner | None = None
    ) -> None:
        """Put a model together from parts; planner decides the shapes of batches."""
        self._encoder = encoder  # read-only: the compiled programs hold it
        self._stack = stack
        self.tokenizer = tokenizer
        backend = jax.default_backend()
        self.planner = planner or by_length(backend, encoder.position.limit)
        scans = type(encoder).forward is Encoder.forward  # else it computes something of its own
        runs = Unrolled(encoder) if backend == "cpu" and scans else encoder
        self.program = Program(vectors, runs, Head(stack))
        self.tally = Tally()

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        deterministic: bool = False,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        revision: str | None = None,
        token: str | None = None,
        ignore_config: Sequence[str] = (),
    ) -> Self:
        """The model of a folder or a hub name, with its pooling, normalisation and prompts.

        deterministic: the same text gives the same bits in any company (one device and version), at
        the price of full batches. ignore_config names keys of the folder's JSON files that may be
        passed over. dtype is float32 or bfloat16, that of the weights and of the states between
        layers; sums, norms, softmax and pooling are float32 in both. bfloat16 is faster where the
        processor multiplies it, and moves components by up to 3e-3 of a vector's norm
        (notes/06-cpu.md), so float32 is the default. Raises ModelNotFoundError and CheckpointError.
        """
        folder = Path(hub.resolve(name, revision=revision, token=token))
        inner = transformer_folder(folder)
        stored = checkpoint.open_folder(inner, ignore_config=ignore_config)
        stack = read_stack(folder, stored.config, ignore_config)
        tokenizer = Tokenizer.from_folder(inner, stack.lower_case, ignore_config)
        encoder = Encoder.from_checkpoint(stored, dtype=dtype, attention=attention)
        planner = ByText(longest=encoder.position.limit) if deterministic else None
        return cls(encoder, tokenizer, stack, planner)

    @property
    def encoder(self) -> Encoder:
        """The encoder; to exchange it, make another Embedder."""
        return self._encoder

    @property
    def stack(self) -> Stack:
        """What the folder puts behind the encoder."""
        return self._stack

    @property
    def max_seq_length(self) -> int:
        """Tokens of a text, special tokens included, beyond which it is cut."""
        return self.stack.max_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        tokens = integer(tokens, "max_seq_length", 1)
        self._stack = dataclasses.replace(self._stack, max_length=tokens)

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled, or read from the cache, so far."""
        return self.program.compilations

    @property
    def stats(self) -> Stats:
        """What has been embedded so far; subtract an earlier one to see what was done since."""
        program = self.program
        return dataclasses.replace(
            self.tally.total, compilations=program.compilations, compile_seconds=program.seconds
        )

    def get_embedding_dimension(self) -> int:
        """The width of a vector."""
        width = self.full_width
        return width if self.stack.truncate_dim is None else min(width, self.stack.truncate_dim)

    def encode(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        max_length: int | None = None,
    ) -> np.ndarray:
        """One float32 vector per text: [n, d] for a list, [d] for one str, [0, d] for nothing.

        prompt (or prompts[prompt_name], or the default of the folder) is put before each text.
        batch_size is the most rows that run together, None leaves it to the planner's budget of
        tokens, and with deterministic=True it changes nothing. max_length overrides the folder's;
        beyond it texts are cut, special tokens kept. truncate_dim keeps the first features;
        normalize_embeddings then divides by the length of what is left. show_progress_bar: None
        shows none. What was done is added to `stats`.
        Raises InputTypeError, InputError, before anything is computed if the list shows it;
        ComputationError for a vector that is not finite.
        Differs: sentence-transformers sorts by characters and its vectors change with the batch;
        here no component moves by more than 5e-7 of the vector's norm (float32), and no bit does
        with deterministic=True.
        """
        start, before = time.perf_counter(), self.stats
        texts = as_list([inputs] if isinstance(inputs, str) else inputs)
        if batch_size is not None:
            batch_size = integer(batch_size, "batch_size", 1)
        if max_length is not None:
            max_length = integer(max_length, "max_length", 1)
        found = np.zeros((len(texts), self.full_width), np.float32)
        width = self.get_embedding_dimension()
        if truncate_dim is not None:
            width = integer(truncate_dim, "truncate_dim", 1, self.full_width)
        prefix = self.prompt(prompt_name, prompt)
        skipped = 0
        if prefix and not self.stack.pooling.include_prompt:
            skipped = self.tokenizer.prompt_length(prefix, max_length or self.max_seq_length)
        jobs = self.jobs(texts, prefix, max_length, batch_size)
        try:
            with tqdm(total=len(texts), unit="text", disable=not show_progress_bar) as bar:
                for members, rows in run(self.program, jobs, np.array(skipped, np.int32)):
                    if not np.isfinite(rows).all():
                        raise not_finite(members, rows)
                    found[members] = rows
                    bar.update(len(members))
        finally:
            self.tally.add(texts=len(texts), seconds=time.perf_counter() - start)
        log.info("%s", self.stats - before)
        found = found[:, :width]
        if normalize_embeddings:
            found = unit_length(found)
        return found[0] if isinstance(inputs, str) else found

    @property
    def full_width(self) -> int:
        """The width of a vector before truncation."""
        return self.stack.width(self.encoder.config.hidden_size)

    def jobs(
        self, texts: list[str], prefix: str, max_length: int | None, batch_size: int | None
    ) -> Iterator[tuple[np.ndarray, Filled]]:
        """(indices of texts, their arrays) of each batch; the next texts are tokenised ahead."""

        def tokenise(window: tuple[int, Sequence[str]]) -> tuple[int, list[np.ndarray]]:
            first, part = window
            return first, self.tokens([prefix + text for text in part], max_length)

        for first, tokens in ahead(tokenise, list(windows(texts, len(prefix)))):
            counts = [len(ids) for ids in tokens]
            batches = self.planner.plan(counts, batch_size)
            for shape in {(batch.rows, batch.length) for batch in batches}:
                self.check_memory(*shape)
            self.tally.add(
                tokens=sum(counts),
                slots=sum(batch.rows * batch.length for batch in batches),
                batches=len(batches),
            )
            for batch in batches:
                yield first + batch.members, batch.fill(tokens)

    def check_memory(self, rows: int, length: int) -> None:
        """Refuse a batch that the device cannot hold."""
        encoder = self.encoder
        dtype = encoder.embeddings.word[...].dtype
        check_memory(encoder.config, encoder.attention, dtype, rows, length)

    def warmup(self, max_length: int | None = None) -> int:
        """Compile what texts of up to max_length tokens usually need; how many shapes were new.

        That is a text alone and a full batch of every length of the ladder, and of rows that short
        texts share; a last, smaller batch may still compile. None stands for 512, or max_seq_length
        if that is less. With the cache of compiled programs (notes/06-cpu.md) only
        the first process on a machine compiles, the others read.
        """
        longest = min(self.max_seq_length, 512) if max_length is None else max_length
        start, before = time.perf_counter(), self.compilations
        for batch in self.planner.usual(integer(longest, "max_length", 1)):
            self.check_memory(batch.rows, batch.length)
            self.program.compile(batch.fill([]), np.array(0, np.int32))
        self.tally.add(seconds=time.perf_counter() - start)
        return self.compilations - before

    def tokens(self, texts: list[str], max_length: int | None = None) -> list[np.ndarray]:
        """The ids of each text, checked against the vocabulary and the encoder's positions."""
        longest = self.stack.max_length if max_length is None else max_length
        tokens = self.tokenizer(texts, longest)
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
        return tokens

    def prompt(self, name: str | None, text: str | None) -> str:
        """The prompt that applies: the text, else the named one, else the folder's default."""
        for given, title in ((text, "prompt"), (name, "prompt_name")):
            if not isinstance(given, str | None):
                raise InputTypeError(f"{title} is a {type(given).__name__}; pass str")
        if text is not None:
            return text
        name = self.stack.default_prompt_name if name is None else name
        if name is None:
            return ""
        if name not in self.stack.prompts:
            known = ", ".join(map(repr, self.stack.prompts)) or "none"
            raise InputError(f"the model has no prompt named {name!r}; it has: {known}")
        return self.stack.prompts[name]

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[n, d] and [m, d] -> [n, m]: cosine, dot, or a negative distance, as the folder says.

        Source: sentence-transformers' similarity_fn_name; euclidean and manhattan are negated there
        too, so that larger is always more alike.
        """
        return similarity(a, b, self.stack.similarity)


def not_finite(members: np.ndarray, rows: np.ndarray) -> ComputationError:
    """The error that names the first text whose vector is no vector."""
    text = members[~np.isfinite(rows).all(axis=-1)][0]
    return ComputationError(
        f"the vector of text {text} is not finite; check the weights with `jaxbert verify`"
    )
