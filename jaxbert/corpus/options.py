"""The options of `jaxbert embed`, as the steps of a run take them."""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import jax

from jaxbert.arguments import integer
from jaxbert.corpus.bad_rows import BadRows, FailOnBadRows, SkipBadRows, ignore
from jaxbert.corpus.fields import Reading
from jaxbert.corpus.rejects import share
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.inference.outputs import Finish
from jaxbert.inference.quantise import Ranges
from jaxbert.inference.request import Request


def shard(text: str | None) -> tuple[int, int]:
    """(i, n) of "i/n"; without it those of jax.distributed, or of its environment.

    Nothing is exchanged, so the environment is enough: a worker then waits for no other, and dies
    with none.
    """
    if text is None and not jax.distributed.is_initialized() and "JAX_PROCESS_ID" in os.environ:
        text = f"{os.environ['JAX_PROCESS_ID']}/{os.environ.get('JAX_NUM_PROCESSES')}"
    if text is None:
        return jax.process_index(), jax.process_count()
    index, _, number = text.partition("/")
    try:
        i, n = int(index), int(number)
    except ValueError as error:
        raise InputError(f"the shard is {text!r}; give i/n, such as --shard 0/8") from error
    if not 0 <= i < n:
        raise InputError(f"the shard is {text!r}; i/n counts from 0/{n} to {n - 1}/{n}")
    return i, n


@dataclass(frozen=True)
class VectorOptions:
    """How a text becomes a vector."""

    precision: str
    normalize: bool
    truncate_dim: int | None
    ranges: str | None  # the file
    prompt: str | None
    prompt_name: str | None
    max_length: int | None

    def finish(self, embedder: Embedder) -> Finish:
        """What is done to vectors after the model; half precision is left to the file."""
        ranges = None if self.ranges is None else Ranges.load(self.ranges)
        if self.precision in ("int8", "uint8") and ranges is None:
            raise InputError(
                f"--precision {self.precision} needs the range of each feature; give --ranges "
                "FILE, which Ranges.of(vectors).save(FILE) wrote"
            )
        exact: Any = "float32" if self.precision == "float16" else self.precision
        return embedder.finish(self.truncate_dim, self.normalize, exact, ranges)

    def request(self, embedder: Embedder) -> Request:
        """How texts are cut and run."""
        return embedder.request(
            prompt_name=self.prompt_name,
            prompt=self.prompt,
            batch_size=None,
            show_progress_bar=False,
            max_length=self.max_length,
            on_long="truncate",
        )


@dataclass(frozen=True)
class Options:
    """What one command reads, makes of it, and writes."""

    inputs: list[str]  # "-" is stdin
    reading: Reading
    model: dict[str, Any]  # as Embedder.from_pretrained takes it
    vectors: VectorOptions
    output: str  # "-" is stdout
    with_text: bool
    rows_per_part: int
    skip_bad_rows: bool
    max_rejected: float  # a share of all rows
    shard: str | None
    overwrite: bool
    quiet: bool

    @classmethod
    def of(cls, given: argparse.Namespace, model: dict[str, Any]) -> Self:
        """The options that were given; InputError for what they cannot be."""
        return cls(
            inputs=given.input or ["-"],
            reading=Reading(given.format, given.text_field, given.id_field, tuple(given.carry)),
            model=model,
            vectors=VectorOptions(
                precision=given.precision,
                normalize=given.normalize,
                truncate_dim=given.truncate_dim,
                ranges=given.ranges,
                prompt=given.prompt,
                prompt_name=given.prompt_name,
                max_length=given.max_length,
            ),
            output=given.output,
            with_text=given.with_text,
            rows_per_part=integer(given.rows_per_part, "--rows-per-part", 1),
            skip_bad_rows=given.on_bad_row == "skip",
            max_rejected=share(given.max_rejected),
            shard=given.shard,
            overwrite=given.overwrite,
            quiet=given.quiet,
        )

    def bad_rows(self, tell: Callable[[str], object] = ignore) -> BadRows:
        """What becomes of bad rows; tell is given a sentence about each that is left out."""
        return SkipBadRows(tell) if self.skip_bad_rows else FailOnBadRows()
