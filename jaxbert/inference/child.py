"""The process for long texts: python -m jaxbert.inference.child, started by apart.py.

It reads pickles from its standard input: a Start, the model, then a Job for each batch. It answers
the model and each job on its standard output; what libraries print goes to standard error.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np

from jaxbert.errors import EngineError, JaxbertError
from jaxbert.inference.batches import Batch
from jaxbert.inference.computers import Computer
from jaxbert.inference.programs import AnyProgram


class Start(NamedTuple):
    """How a process computes: what its priority is lower by, and options of JAX by name."""

    nice: int
    options: Mapping[str, Any]

    def apply(self) -> None:
        """Make it so in this process, before JAX starts."""
        if hasattr(os, "nice"):  # not on every system
            os.nice(self.nice)
        for name, value in self.options.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]


class Job(NamedTuple):
    """A batch of all these texts."""

    kind: str  # of results
    batch: Batch
    tokens: Sequence[np.ndarray]
    skipped: Sequence[int]


# The programs of a model by the kinds of their results.
PROGRAMS: Mapping[str, Callable[[Any], AnyProgram]] = {
    "vectors": lambda model: model.engine.vectors,
    "states": lambda model: model.engine.states,
    "scores": lambda model: model.scores,
}


def computed(model: Any, job: Job) -> Any:
    """(results, which of them are right, how many shapes were new) of a batch, or its error."""
    computer = Computer(model.engine, {job.kind: PROGRAMS[job.kind](model)}, ahead=1)
    before = computer.compilations
    try:
        rows, right = computer.begin(job.kind, job.batch, job.tokens, job.skipped).rows()
    except JaxbertError as error:
        return error
    except Exception as error:  # whose class the other process may not be able to make
        return EngineError(f"a batch of long texts failed: {type(error).__name__}: {error}")
    return rows, right, computer.compilations - before


def answer(given: BinaryIO, say: Callable[[Any], None]) -> None:
    """Read the model, say that it is there, and answer jobs until there are no more."""
    pickle.load(given).apply()
    try:
        model = pickle.load(given)
    except Exception as error:  # such as a class of a script, which is not imported here
        say(EngineError(f"{type(error).__name__}: {error}"))
        return
    say("ready")
    while True:
        try:
            job = pickle.load(given)
        except EOFError:
            return
        say(computed(model, job))


def main() -> None:
    """Be the process: it ends with its input, whatever signals its parent gets."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)

    def say(message: Any) -> None:
        pickle.dump(message, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()

    try:
        answer(sys.stdin.buffer, say)
    except BrokenPipeError:  # nobody waits for the answer any longer
        os._exit(1)
    os._exit(0)  # nothing is left to tidy up, and at this priority Python may take seconds to end


if __name__ == "__main__":
    main()
