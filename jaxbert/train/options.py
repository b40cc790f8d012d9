"""The options of `jaxbert train`, checked, as the steps of a run take them."""

import argparse
import math
from dataclasses import asdict, dataclass
from typing import Any, Self

from jaxbert.arguments import integer
from jaxbert.errors import InputError
from jaxbert.train.batches import bucket_lengths
from jaxbert.train.texts import PairFields


def numbers(text: str, name: str) -> tuple[int, ...]:
    """ "0,2,4" as numbers; InputError for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; give numbers, such as 0,2,4") from error


def real(value: float, name: str, low: float, high: float = math.inf) -> float:
    """The value, if it lies in [low, high]; InputError names it."""
    if not low <= value <= high or math.isinf(value):
        raise InputError(f"{name} is {value}; it must be from {low:g} to {high:g}")
    return value


@dataclass(frozen=True)
class Beginning:
    """What training begins with: a base, or a config and the folder of a tokenizer."""

    base: str | None
    revision: str | None
    ignore_config: tuple[str, ...]
    config: str | None
    tokenizer: str | None
    layers: tuple[int, ...] | None
    architecture: str | None
    intermediate: int | None

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        """The options that were given; InputError for two beginnings, and for none."""
        if (given.base is None) == (given.config is None):
            raise InputError(
                "say what training begins with: --base MODEL, or --config bert-tiny (or a JSON "
                "file) with --tokenizer MODEL"
            )
        if given.config is not None and given.tokenizer is None:
            raise InputError("--config needs a vocabulary; give --tokenizer MODEL too")
        if given.base is not None and given.tokenizer is not None:
            raise InputError("--base has a tokenizer of its own; leave --tokenizer out")
        for name in ("layers", "architecture"):
            if given.config is not None and getattr(given, name) is not None:
                raise InputError(f"--{name} is for a --base; a config says all of that")
        if given.intermediate is not None and given.architecture is None:
            raise InputError("--intermediate is for --architecture; leave it out")
        layers = None if given.layers is None else numbers(given.layers, "--layers")
        wide = given.intermediate
        return cls(
            base=given.base,
            revision=given.revision,
            ignore_config=tuple(given.ignore_config),
            config=given.config,
            tokenizer=given.tokenizer,
            layers=layers,
            architecture=given.architecture,
            intermediate=None if wide is None else integer(wide, "--intermediate", 1),
        )


@dataclass(frozen=True)
class Training:
    """All numbers that decide about the bits of a run, beside the data and the beginning."""

    steps: int
    batch: int
    length: int
    buckets: tuple[int, ...]
    rate: float
    warmup: int
    schedule: str
    decay: float
    clip: float
    dropout: float
    seed: int
    frozen: tuple[str, ...]
    rows: int | None

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        """The options that were given; InputError for what they cannot be."""
        steps = integer(given.steps, "--steps", 1)
        length = integer(given.length, "--length", 1)
        warmup = steps // 10 if given.warmup is None else integer(given.warmup, "--warmup", 0)
        return cls(
            steps=steps,
            batch=integer(given.batch, "--batch", 1),
            length=length,
            buckets=bucket_lengths(length, integer(given.buckets, "--buckets", 1, 8)),
            rate=real(given.rate, "--rate", 0.0),
            warmup=warmup,
            schedule=given.schedule,
            decay=real(given.decay, "--decay", 0.0),
            clip=real(given.clip, "--clip", 0.0),
            dropout=real(given.dropout, "--dropout", 0.0, 1.0),
            seed=integer(given.seed, "--seed", 0),
            frozen=tuple(given.freeze),
            rows=None if given.rows is None else integer(given.rows, "--rows", 1),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The numbers by name, for the identity of a run."""
        return asdict(self)


@dataclass(frozen=True)
class Options:
    """What one command trains, on what, and where it puts the result."""

    task: str
    inputs: tuple[str, ...]
    kind: str | None  # of the files; None: by their names
    skip_bad_rows: bool
    beginning: Beginning
    training: Training
    output: str
    every: int
    seconds: float
    evaluate: tuple[str, ...]
    quiet: bool
    own: dict[str, Any]  # what only this task has

    @classmethod
    def of(cls, given: argparse.Namespace, own: tuple[str, ...]) -> Self:
        """The options that were given; own are the names of those of the task alone."""
        minutes = given.minutes
        return cls(
            task=given.task,
            inputs=tuple(given.texts),
            kind=given.format,
            skip_bad_rows=given.on_bad_row == "skip",
            beginning=Beginning.of(given),
            training=Training.of(given),
            output=given.output,
            every=integer(given.checkpoint_every, "--checkpoint-every", 1),
            seconds=math.inf if minutes is None else 60 * real(minutes, "--minutes", 0.0),
            evaluate=tuple(given.evaluate or ()),
            quiet=given.quiet,
            own={name: getattr(given, name) for name in own},
        )

    @property
    def fields(self) -> PairFields:
        """The names of the fields of pairs."""
        own = self.own
        return PairFields(
            own["anchor_field"], own["positive_field"], own["negative_field"], own["score_field"]
        )
