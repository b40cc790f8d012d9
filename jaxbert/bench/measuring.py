"""Seconds of engines on the same items, taken in turns.

A machine may slow down for a minute. Where engines take turns, all of them have their share of it,
and the ratio of two stays what it is.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxbert.bench.subjects import Results, Subject
from jaxbert.bench.texts import spread
from jaxbert.errors import JaxbertError
from jaxbert.inference.coarse_first import finest
from jaxbert.process import interrupts

# Rounds at least, however long they take, and the calls of one item in each.
ROUNDS, SINGLES = 3, 5
# Items by which the speed of a model is guessed, and the most that are timed.
GUESSED, MOST = 16, 1000


class Candidate(NamedTuple):
    """A way to compute a model: an engine, and the format of its numbers."""

    engine: str
    dtype: str


class Loaded(NamedTuple):
    """A candidate with its model, and the seconds that loading it took."""

    candidate: Candidate
    model: Any
    seconds: float


class LeftOut(NamedTuple):
    """A candidate that does not run here, and why."""

    candidate: Candidate
    reason: str


class Timed(NamedTuple):
    """What was measured of a candidate: all times in seconds."""

    candidate: Candidate
    loading: float
    first: float  # the first list, compilations included
    lists: tuple[float, ...]  # one for each round
    singles: tuple[float, ...]  # one item alone: the least of SINGLES calls, for each round
    tokens: int  # of the list, special tokens included
    difference: float  # the largest from the first candidate, over the largest number there is

    @property
    def speed(self) -> float:
        """Tokens a second, of the median round."""
        return self.tokens / statistics.median(self.lists)

    @property
    def single(self) -> float:
        """The median round's seconds for one item alone."""
        return statistics.median(self.singles)


def clocked(call: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of a call."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def loaded(
    subject: Subject, candidates: Sequence[Candidate], **arguments: Any
) -> Iterator[Loaded | LeftOut]:
    """Each candidate with its model, or why there is none; the first must load.

    Raises the errors of from_pretrained for the first.
    """
    for number, own in enumerate(candidates):
        interrupts.check()
        try:
            seconds, model = clocked(partial(subject.load, **arguments, **own._asdict()))
        except JaxbertError as error:
            if number == 0:
                raise
            yield LeftOut(own, reason(error))
        else:
            yield Loaded(own, model, seconds)


def enough(subject: Subject, model: Any, items: list[Any], seconds: float) -> int:
    """How many items take so many seconds, as guessed from a few of all; GUESSED to MOST."""
    few = spread(items, GUESSED)
    subject.run(model, few)
    taken, _ = clocked(partial(subject.run, model, few))
    return int(min(max(len(few) * seconds / taken, GUESSED), MOST))


def difference(ours: Results, first: Results) -> float:
    """The largest difference of two lists of arrays over the largest number of the second."""
    largest = max(float(np.abs(own).max(initial=0)) for own in first)
    apart = max(float(np.abs(a - b).max(initial=0)) for a, b in zip(ours, first, strict=True))
    return apart / largest if largest else apart


class First(NamedTuple):
    """A model's first list: seconds, tokens, and how far it is from the first model's."""

    seconds: float
    tokens: int
    difference: float


def first_lists(
    subject: Subject, models: Sequence[Loaded], items: list[Any], alone: Any
) -> Iterator[First | LeftOut]:
    """What each model makes of the items the first time, or why it cannot; the first must.

    Then each runs its own batches, as it would after many texts (coarse_first.py), and they and the
    item alone are run once, so that nothing is left to be compiled.
    """
    expected: Results | None = None
    for own in models:
        interrupts.check()
        before = own.model.stats
        try:
            seconds, results = clocked(partial(subject.run, own.model, items))
            tokens = (own.model.stats - before).tokens
            own.model.engine.planner = finest(own.model.engine.planner)
            subject.run(own.model, items)
            subject.run(own.model, [alone])
        except JaxbertError as error:
            if expected is None:
                raise
            yield LeftOut(own.candidate, reason(error))
        else:
            expected = results if expected is None else expected
            yield First(seconds, tokens, difference(results, expected))


def reason(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def single(subject: Subject, model: Any, item: Any) -> float:
    """The least seconds of SINGLES calls with one item."""
    return min(clocked(partial(subject.run, model, [item]))[0] for _ in range(SINGLES))


class Run(NamedTuple):
    """A model while it is timed."""

    own: Loaded
    first: First
    lists: list[float]
    singles: list[float]

    def timed(self) -> Timed:
        """All that was measured of it."""
        own, first = self.own, self.first
        lists, singles = (*self.lists,), (*self.singles,)
        return Timed(own.candidate, own.seconds, first.seconds, lists, singles, *first[1:])


def measured(
    subject: Subject, models: Sequence[Loaded], items: list[Any], alone: Any, seconds: float
) -> tuple[list[Timed], list[LeftOut]]:
    """The times of all models on the items, and on one item alone; and which cannot compute them.

    Rounds, each of which begins with another model, go on until `seconds` have passed, and there
    are ROUNDS at least. Raises what the first model raises.
    """
    tried = list(first_lists(subject, models, items, alone))
    left_out = [own for own in tried if isinstance(own, LeftOut)]
    runs = [
        Run(own, first, [], [])
        for own, first in zip(models, tried, strict=True)
        if isinstance(first, First)
    ]
    start, turn = time.perf_counter(), 0
    while turn < ROUNDS or time.perf_counter() - start < seconds:
        for step in range(len(runs)):
            interrupts.check()
            run = runs[(turn + step) % len(runs)]
            run.lists.append(clocked(partial(subject.run, run.own.model, items))[0])
            run.singles.append(single(subject, run.own.model, alone))
        turn += 1
    return [run.timed() for run in runs], left_out
