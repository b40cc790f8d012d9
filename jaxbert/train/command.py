"""`jaxbert train`: options -> a run -> the folder of a model."""

import argparse
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from tqdm import tqdm

from jaxbert.checkpoint.replacing import destination
from jaxbert.corpus.files import sibling
from jaxbert.corpus.locks import kernel_locks
from jaxbert.corpus.run_identity import describe_software
from jaxbert.process import interrupts, streams
from jaxbert.train.batches import Batches
from jaxbert.train.folder import RunFolder
from jaxbert.train.optimizers import adamw
from jaxbert.train.options import Options
from jaxbert.train.plot import draw
from jaxbert.train.run import Limits, Run
from jaxbert.train.step import Step, start
from jaxbert.train.tasks import TASKS, Task
from jaxbert.train.texts import OnBadRow

# The options that only one task has.
OWN = {
    "mlm": ("text_field", "share"),
    "pairs": (
        *("anchor_field", "positive_field", "negative_field", "score_field"),
        *("loss", "temperature", "matryoshka"),
    ),
    "distil": (
        *("text_field", "sentences", "sample", "teacher", "vectors"),
        *("loss", "temperature", "matryoshka"),
    ),
}
# Exit status of a run that ends before its last step.
UNFINISHED = 3


def train(given: argparse.Namespace) -> int:
    """Begin a run, or go on with it, and write the model; the exit status."""
    options = Options.of(given, OWN[given.task])
    kernel_locks()  # refused before any work where there are none
    place = destination(options.output)
    task = TASKS[options.task](options, OnBadRow(options.skip_bad_rows, say))
    interrupts.check()
    with RunFolder(sibling(place, ".run"), say) as folder:
        folder.compare(identity(options, task))
        run = opened(options, task, folder)
        if run.finished and place.is_dir():
            say(f"{options.output} is complete already")
            return 0
        if run.done == 0:
            told("before training", task.score(task.model()))
        with told_how_far(run):
            follow(run, options)
        return ended(options, task, run, folder)


def say(sentence: str) -> None:
    """Write a sentence to stderr."""
    streams.say(f"jaxbert: {sentence}")


def told(when: str, score: str | None) -> None:
    """Say how good the model is, where that is known."""
    if score is not None:
        say(f"{when}: {score}")


def identity(options: Options, task: Task) -> dict[str, Any]:
    """All that decides about the bits of the result, and nothing about time or place."""
    return {
        "task": options.task,
        "start": task.start.settings,
        "training": options.training.settings,
        "devices": jax.local_device_count(),
        "software": describe_software(),
        **task.settings,
    }


def opened(options: Options, task: Task, folder: RunFolder) -> Run:
    """The run that the options describe, as far as it is done."""
    own = options.training
    data = task.data(folder.path)
    batches = Batches(data, own.batch, own.seed, own.buckets)
    optimizer = adamw(own.rate, own.steps, own.warmup, own.schedule, own.decay, own.clip)
    step = Step(
        task.objective(),
        optimizer,
        seed=own.seed,
        frozen=own.frozen,
        devices=jax.local_devices(),
    )
    state = start(task.model(), optimizer, own.frozen)
    limits = Limits(own.steps, options.every, options.seconds)
    return Run(state, step, batches, limits, folder)


@contextmanager
def told_how_far(run: Run) -> Iterator[None]:
    """Within the block, a signal ends the command with a sentence about what is kept."""
    try:
        yield
    except interrupts.Interrupted as error:
        words = (
            f"interrupted; the state after step {run.done} is kept, and the same command goes on "
            "from there"
        )
        raise interrupts.Interrupted(error.number, words) from None


def follow(run: Run, options: Options) -> None:
    """Take all steps that are left, with a bar that shows how far the run is."""
    steps = options.training.steps
    with tqdm(
        total=steps, initial=run.done, unit="step", disable=options.quiet, dynamic_ncols=True
    ) as bar:
        for record in run:
            bar.update()
            bar.set_postfix(loss=f"{record['loss']:.4f}", refresh=False)


def ended(options: Options, task: Task, run: Run, folder: RunFolder) -> int:
    """Write the model and the picture of the loss, and say how good the model is."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    draw(folder.records(), folder.path)
    task.save(run.state.model, options.output)
    told("after training", task.score(run.state.model))
    where = f"{options.output} is written; metrics and checkpoints are in {folder.path}"
    if run.finished:
        say(where)
        return 0
    say(
        f"{where}; only {run.done} of {options.training.steps} steps are done, so the rate has not "
        "come down: give the same command again to go on"
    )
    return UNFINISHED
