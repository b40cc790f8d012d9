"""Small models, data and runs for the tests of training."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxbert.model.head import Pooling, PoolingHead
from jaxbert.model.transformer import Inputs
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.batches import Batches
from jaxbert.train.data import Taught
from jaxbert.train.models import TextModel
from jaxbert.train.optimizers import adamw
from jaxbert.train.ragged import Ragged
from jaxbert.train.run import Limits, Run
from jaxbert.train.step import Step, start
from tests.models import CONFIGS, make, word_tokenizer

WIDTH = CONFIGS["bert-gelu"].hidden_size
TEXTS = ["a b c d e f g h i j k"[: 2 * (3 + i % 9) - 1] for i in range(41)]
STEPS = 20


def OBJECTIVE(model, batch, key):  # noqa: N802
    """The mean square of vectors beside those of the batch; noise shows which key it was."""
    ids = batch["ids"]
    positions = jnp.arange(ids.shape[1], dtype=jnp.int32)[None]
    found = model(Inputs(ids, batch["segments"], jnp.zeros_like(ids), positions))
    return jnp.square(found - batch["teacher"]).mean(), {}


@functools.cache
def model(name="bert-gelu"):
    """A small encoder with mean pooling."""
    return TextModel(make(CONFIGS[name]), PoolingHead(Pooling()))


def tokenizer():
    return Tokenizer(word_tokenizer(), "right")


def taught_batch(rows=4, length=8):
    """A batch of full rows."""
    random = np.random.default_rng(0)
    return {
        "ids": random.integers(0, 31, (rows, length)).astype(np.int32),
        "segments": np.ones((rows, length), np.int32),
        "teacher": random.normal(size=(rows, WIDTH)).astype(np.float32),
    }


@functools.cache
def batches(rows=4, seed=0):
    """Batches of TEXTS with random vectors, of two lengths."""
    vectors = np.random.default_rng(1).normal(size=(len(TEXTS), WIDTH)).astype(np.float32)
    return Batches(Taught(Ragged.of(tokenizer()(TEXTS)), vectors), rows, seed, (8, 13))


@functools.cache
def compiled(objective=OBJECTIVE):
    """A step that all runs share, since tracing takes longer than running."""
    return Step(objective, adamw(1e-2, STEPS, 3))


def run(folder=None, steps=STEPS, every=3, objective=OBJECTIVE, **options):
    """A run of STEPS that has not begun, or goes on in an open folder."""
    step = compiled(objective)
    state = start(model(), step.optimizer)
    return Run(state, step, batches(), Limits(steps, every, **options), folder)
