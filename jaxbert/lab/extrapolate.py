"""Small masked language models, trained at one length and evaluated at longer ones.

Each scheme of positions gets the same model, the same batches in the same order and the same
masks. Every length is evaluated on the same masked symbols of the same texts: a piece is cut into
rows of that length, so that only what can be read around a symbol differs.
"""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxbert.arguments import integer
from jaxbert.errors import InputError, JaxbertError
from jaxbert.lab.loading import reason
from jaxbert.lab.material import Material
from jaxbert.lab.schemes import Scheme
from jaxbert.lab.setting import Setting
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.components import bert_components
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import MaskedLanguageHead
from jaxbert.model.transformer import Inputs, Transformer
from jaxbert.process import interrupts
from jaxbert.process.backend import computing
from jaxbert.train.batches import Batches
from jaxbert.train.data import Arrays, Windows
from jaxbert.train.masking import WholeWords, count
from jaxbert.train.models import MaskedModel
from jaxbert.train.objectives import masked_lm
from jaxbert.train.optimizers import adamw
from jaxbert.train.ragged import Ragged
from jaxbert.train.run import Limits, Run
from jaxbert.train.step import Step, start
from jaxbert.train.trainable import parameters

# Steps by which the speed of a scheme is measured, where runs take equal time.
TIMED = 30
# The seed of the masks of the evaluation.
EVALUATION = 0


class Result(NamedTuple):
    """What one scheme with one seed has come to; accuracy is a share, by length."""

    scheme: str
    seed: int
    steps: int
    seconds: float  # of training, compiling not counted
    parameters: int
    loss: float  # the mean of the last tenth of the steps
    accuracy: dict[int, float]
    masked: int  # symbols that it is the accuracy of


def with_ends(rows: np.ndarray, material: Material, ends: int) -> np.ndarray:
    """Rows [r, t] with [CLS] before them, and [SEP] behind, where there are so many ends."""
    _, _, before, behind, _ = material.symbols
    columns = [np.full((len(rows), 1), id, np.int32) for id in (before, behind)]
    return np.concatenate([*columns[: min(ends, 1)], rows, *columns[1:ends]], axis=1)


class Seeded:
    """Batches with the seed of a run in them, so that one compiled step serves all seeds."""

    def __init__(self, batches: Batches, seed: int) -> None:
        """The seed is an array of every batch."""
        self.batches, self.seed = batches, seed
        self.rows_of, self.tokens = batches.rows_of, batches.tokens

    def __call__(self, step: int) -> Arrays:
        """The arrays of a step's batch."""
        return self.batches(step) | {"seed": np.array(self.seed, np.int32)}


class Questions(NamedTuple):
    """The rows of a length with masks in them, the places of these, and what stood there."""

    ids: Any  # [p, r, t] int32: the r rows of each of p pieces
    places: Any  # [p, r, m] int32
    wanted: Any  # [p, r, m] int32


def questions(material: Material, setting: Setting, length: int) -> Questions:
    """The pieces cut into rows of a length; the masked symbols are the same for every length."""
    pieces, short = material.pieces, setting.length
    per_row = count(short, setting.share)
    random = np.random.default_rng(EVALUATION)
    # The same number in every stretch of the trained length, so that all lengths have whole ones.
    order = random.random((*pieces.shape[:1], pieces.shape[1] // short, short)).argsort(axis=-1)
    starts = np.arange(0, pieces.shape[1], short)[None, :, None]
    places = (np.sort(order[..., :per_row], axis=-1) + starts).reshape(len(pieces), -1)
    masked = pieces.copy()
    np.put_along_axis(masked, places, material.symbols.mask, axis=1)
    rows = pieces.shape[1] // length
    ids = with_ends(masked.reshape(-1, length), material, setting.ends)
    return Questions(
        ids.reshape(len(pieces), rows, -1),
        (places % length).reshape(len(pieces), rows, -1).astype(np.int32) + min(setting.ends, 1),
        np.take_along_axis(pieces, places, axis=1).reshape(len(pieces), rows, -1),
    )


@jax.jit
def answers(model: MaskedModel, asked: Questions) -> jax.Array:
    """How many of the masked symbols have the largest logit, one piece after the other."""

    def of_piece(own: Questions) -> jax.Array:
        ids = own.ids
        positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None, :]
        inputs = Inputs(ids, jnp.ones_like(ids), jnp.zeros_like(ids), positions)
        logits = model.logits(model.encoder.forward(inputs), own.places)
        return (jnp.argmax(logits, axis=-1) == own.wanted).sum()

    return jax.lax.map(of_piece, asked).sum()


class Experiment:
    """One scheme in one setting: result(seed) trains a model and evaluates it.

    What is compiled serves all seeds.
    """

    def __init__(self, scheme: Scheme, setting: Setting, material: Material) -> None:
        """Raise InputError for a scheme that the model cannot have, before anything is trained."""
        self.scheme, self.setting, self.material = scheme, setting, material
        self.config = EncoderConfig.bert(
            vocab_size=material.symbols.size,
            hidden_size=setting.width,
            num_layers=setting.layers,
            num_heads=setting.heads,
            intermediate_size=4 * setting.width,
            position="none",
            initializer_range=setting.std,
        )
        ids = with_ends(material.rows, material, setting.ends)
        words = np.pad(
            np.broadcast_to(np.arange(setting.length, dtype=np.int32), material.rows.shape),
            ((0, 0), (min(setting.ends, 1), max(setting.ends - 1, 0))),
            constant_values=-1,
        )
        starts = np.arange(len(ids) + 1) * ids.shape[1]
        self.data = Windows(Ragged(ids.ravel(), starts), Ragged(words.ravel(), starts))
        self.batches(0)
        self.check()

    def batches(self, seed: int) -> Batches:
        """The batches of a seed. Raises InputError for fewer rows than a batch."""
        return Batches(
            self.data, self.setting.batch, seed, (self.setting.length + self.setting.ends,)
        )

    def model(self, seed: int) -> MaskedModel:
        """A model with weights drawn by the seed."""
        position = self.scheme.make(self.setting.sizes, seed)
        components = bert_components(self.config)._replace(position=lambda rngs: position)
        rngs = nnx.Rngs(seed)
        with computing():
            encoder = Transformer(self.config, rngs=rngs, components=components)
            head = MaskedLanguageHead(self.config, ACTIVATIONS["gelu"], rngs=rngs, tied=True)
            return MaskedModel(encoder, head)

    def check(self) -> None:
        """Raise InputError where the scheme fails, or has fewer positions than the longest row."""
        model, longest = self.model(0), self.setting.sizes.tokens
        limit = model.encoder.position.limit
        if limit is not None and limit < longest:
            raise InputError(
                f"{self.scheme.title} has {limit} positions, and the longest row {longest} "
                "symbols; lower --lengths"
            )
        ids: Any = jnp.zeros((1, longest), jnp.int32)
        try:
            with computing():
                jax.eval_shape(model.encoder.forward, Inputs(ids, ids, ids, ids))
        except JaxbertError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise InputError(f"{self.scheme.title} raised {reason(error)}") from error

    @cached_property
    def asked(self) -> dict[int, Questions]:
        """The questions of each length."""
        return {own: questions(self.material, self.setting, own) for own in self.setting.lengths}

    @cached_property
    def steps(self) -> int:
        """The steps of every seed: those of the setting, or as many as fit in its seconds."""
        setting = self.setting
        if setting.seconds is None:
            return integer(setting.steps, "--steps", 2)
        return max(2, round(setting.seconds / self.seconds_per_step))

    @cached_property
    def seconds_per_step(self) -> float:
        """What one step takes, the mean of some on a model that is then thrown away."""
        step = self.step(2 * TIMED)
        state = start(self.model(0), step.optimizer)
        records = iter(Run(state, step, Seeded(self.batches(0), 0), Limits(2 * TIMED)))
        for _ in range(TIMED):  # the first one compiles
            next(records)
        begun = time.perf_counter()
        for _ in records:
            pass
        return (time.perf_counter() - begun) / TIMED

    def step(self, steps: int) -> Step:
        """A step of a run of so many."""
        symbols, setting = self.material.symbols, self.setting
        special = (symbols.mask, symbols.before, symbols.behind)
        masking = WholeWords(
            setting.share, symbols.mask, symbols.size, special, mask=1.0, random=0.0, keep=0.0
        )
        inner = masked_lm(masking)

        def objective(model: Any, batch: Any, key: jax.Array) -> Any:
            return inner(model, batch, jax.random.fold_in(key, batch["seed"]))

        optimizer = adamw(setting.rate, steps, max(1, steps // 10))
        return Step(objective, optimizer)

    @cached_property
    def full_step(self) -> Step:
        """The step of all seeds, compiled once."""
        return self.step(self.steps)

    def result(self, seed: int, tell: Callable[[int], object] = lambda done: None) -> Result:
        """Train and evaluate the model of a seed; tell is told of every step.

        Raises LossError for a loss that is not finite.
        """
        begun = start(self.model(seed), self.full_step.optimizer)
        run = Run(begun, self.full_step, Seeded(self.batches(seed), seed), Limits(self.steps))
        losses, first = [], 0.0
        for record in run:
            losses.append(record["loss"])
            first = first or record["seconds"]  # of the step that compiles
            tell(run.done)
        seconds = record["seconds"] - first
        return Result(
            scheme=self.scheme.title,
            seed=seed,
            steps=self.steps,
            seconds=round(seconds, 2),
            parameters=sum(own.size for own in parameters(run.state.model).values()),
            loss=float(np.mean(losses[-max(1, len(losses) // 10) :])),
            accuracy=self.accuracy(run.state.model),
            masked=self.asked[self.setting.length].wanted.size,
        )

    def accuracy(self, model: MaskedModel) -> dict[int, float]:
        """The share of the masked symbols that a model finds, by length."""
        found = {}
        for length, asked in self.asked.items():
            with computing():
                found[length] = int(answers(model, asked)) / asked.wanted.size
            interrupts.check()
        return found
