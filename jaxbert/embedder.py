"""Text -> vectors: tokenise, plan batches, run, pool, put back in order."""

import dataclasses
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from scipy.spatial.distance import cdist
from tqdm import tqdm

from jaxbert import checkpoint, hub
from jaxbert.attention import Attend
from jaxbert.batching import ByLength, ByText, Planner
from jaxbert.encoder import Encoder
from jaxbert.errors import ComputationError, InputError, InputTypeError
from jaxbert.inputs import Inputs, check_length
from jaxbert.memory import check_memory
from jaxbert.modules import transformer_folder
from jaxbert.pooling import SMALLEST_NORM, Head
from jaxbert.runner import Program, run
from jaxbert.stack import Stack, read_stack
from jaxbert.tokenizer import Tokenizer

# Iterables whose order or elements are not a list of texts.
UNORDERED = (bytes, bytearray, dict, set, frozenset)
DISTANCES = {"euclidean": "euclidean", "manhattan": "cityblock"}


def vectors(
    encoder: Encoder, head: Head, ids: jax.Array, segments: jax.Array, skipped: jax.Array
) -> jax.Array:
    """Ids and segments [b, t] -> [b, d]; the first `skipped` tokens of a row are not pooled."""
    positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None, :]
    hidden = encoder.forward(Inputs(ids, segments, jnp.zeros_like(ids), positions))
    return head(hidden, (segments != 0) & (positions >= skipped))


class Embedder:
    """An encoder, its tokenizer and the stack that a model's folder puts behind it."""

    def __init__(
        self, encoder: Encoder, tokenizer: Tokenizer, stack: Stack, planner: Planner | None = None
    ) -> None:
        """Put a model together from parts; planner decides the shapes of batches."""
        self._encoder = encoder  # read-only: the compiled programs hold it
        self._stack = stack
        self.tokenizer = tokenizer
        self.planner = planner or ByLength(longest=encoder.position.limit)
        self.program = Program(vectors, encoder, Head(stack))

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
        passed over. Raises ModelNotFoundError and CheckpointError.
        """
        folder = Path(hub.resolve(name, revision=revision, token=token))
        inner = transformer_folder(folder)
        stored = checkpoint.open_folder(inner, ignore_config=ignore_config)
        stack = read_stack(folder, stored.config, ignore_config)
        tokenizer = Tokenizer.from_folder(inner, stack.lower_case, ignore_config)
        encoder = Encoder.from_checkpoint(stored, dtype=dtype, attention=attention)
        planner = ByText if deterministic else ByLength
        return cls(encoder, tokenizer, stack, planner(longest=encoder.position.limit))

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
        """How many shapes have been compiled so far."""
        return self.program.compilations

    def get_embedding_dimension(self) -> int:
        """The width of a vector."""
        width = self.stack.width(self.encoder.config.hidden_size)
        return width if self.stack.truncate_dim is None else min(width, self.stack.truncate_dim)

    def encode(
        self,
        inputs: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        max_length: int | None = None,
    ) -> np.ndarray:
        """One float32 vector per text: [n, d] for a list, [d] for one str, [0, d] for nothing.

        prompt (or prompts[prompt_name], or the default of the folder) is put before each text.
        batch_size is the most rows that run together. max_length overrides the folder's; beyond it
        texts are cut, special tokens kept. truncate_dim keeps the first features;
        normalize_embeddings then divides by the length of what is left. show_progress_bar: None
        shows none.
        Raises InputTypeError, InputError, before anything is computed; ComputationError for a
        vector that is not finite.
        Differs: sentence-transformers sorts by characters and its vectors change with the batch;
        here no component moves by more than 5e-7 of the vector's norm (float32), and no bit does
        with deterministic=True.
        """
        texts = [inputs] if isinstance(inputs, str) else as_list(inputs)
        batch_size = integer(batch_size, "batch_size", 1)
        if max_length is not None:
            max_length = integer(max_length, "max_length", 1)
        full = self.stack.width(self.encoder.config.hidden_size)
        width = self.get_embedding_dimension()
        if truncate_dim is not None:
            width = integer(truncate_dim, "truncate_dim", 1, full)
        prefix = self.prompt(prompt_name, prompt)
        tokens = self.tokens([with_prompt(prefix, text) for text in texts], max_length)
        skipped = 0
        if prefix and not self.stack.pooling.include_prompt:
            skipped = self.tokenizer.prompt_length(prefix, max_length or self.max_seq_length)
        found = self.embed_tokens(tokens, skipped, batch_size, bool(show_progress_bar))[:, :width]
        if normalize_embeddings:
            found = unit_length(found)
        return found[0] if isinstance(inputs, str) else found

    def embed_tokens(
        self, tokens: list[np.ndarray], skipped: int, batch_size: int, show_progress_bar: bool
    ) -> np.ndarray:
        """The vectors [n, width] of token ids, in order; `skipped` leading ones not pooled."""
        found = np.zeros(
            (len(tokens), self.stack.width(self.encoder.config.hidden_size)), np.float32
        )
        batches = self.planner.plan([len(ids) for ids in tokens], batch_size)
        encoder, dtype = self.encoder, self.encoder.embeddings.word[...].dtype
        for shape in {(batch.rows, batch.length) for batch in batches}:
            check_memory(encoder.config, encoder.attention, dtype, *shape)
        with tqdm(total=len(tokens), unit="text", disable=not show_progress_bar) as bar:
            for members, rows in run(self.program, batches, tokens, np.array(skipped, np.int32)):
                if not np.isfinite(rows).all():
                    raise not_finite(members, rows)
                found[members] = rows
                bar.update(len(members))
        return found

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
        a, b = np.atleast_2d(np.asarray(a, np.float32)), np.atleast_2d(np.asarray(b, np.float32))
        if a.shape[1] != b.shape[1]:
            raise InputError(f"vectors of width {a.shape[1]} and {b.shape[1]} cannot be compared")
        if self.stack.similarity in DISTANCES:
            distance = cdist(a, b, DISTANCES[self.stack.similarity])
            return (-distance).astype(np.float32)
        if self.stack.similarity == "cosine":
            a, b = unit_length(a), unit_length(b)
        return a @ b.T


def as_list(inputs: Iterable[str]) -> list[str]:
    """The texts as a list; what cannot be a list of texts is refused."""
    if isinstance(inputs, UNORDERED) or not isinstance(inputs, Iterable):
        raise InputTypeError(f"inputs is a {type(inputs).__name__}; pass a str or a list of str")
    try:
        return list(inputs)
    except TypeError as error:  # an array without axes calls itself iterable
        raise InputTypeError("inputs is an array without axes; pass a str or a list") from error


def with_prompt(prompt: str, text: str) -> str:
    """The prompt before the text; what is no text is left to be refused by its place."""
    return prompt + text if isinstance(text, str) else text


def integer(value: Any, name: str, low: int, high: int = 2**31 - 1) -> int:
    """The value as an int in [low, high], from any type that is a whole number."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputTypeError(f"{name} is a {type(value).__name__}; pass an integer") from error
    if not low <= number <= high:
        raise InputError(f"{name} is {number}; it must be from {low} to {high}")
    return number


def not_finite(members: np.ndarray, rows: np.ndarray) -> ComputationError:
    """The error that names the first text whose vector is no vector."""
    text = members[~np.isfinite(rows).all(axis=-1)][0]
    return ComputationError(
        f"the vector of text {text} is not finite; check the weights with `jaxbert verify`"
    )


def unit_length(x: np.ndarray) -> np.ndarray:
    """x / max(||x||, 1e-12) over the last axis, in float32."""
    norm = np.sqrt(np.square(x).sum(axis=-1, keepdims=True, dtype=np.float32))
    return x / np.maximum(norm, np.float32(SMALLEST_NORM))
