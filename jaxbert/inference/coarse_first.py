"""Batches of few shapes while few are compiled, and of finer ones where these pay.

To compile a shape takes as long as thousands of tokens. So a planner's own batches run once their
shapes are compiled, or once coarser ones in their place have taken as much longer as it takes to
compile them: lists of texts take not much more than twice the time that they would have taken, had
one known from the first which texts come.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, TypeAlias

from jaxbert.inference.batches import Batch
from jaxbert.inference.data_parallel import shape
from jaxbert.inference.ladder import all_rows
from jaxbert.inference.packing import cost
from jaxbert.inference.planning import ByLength, Planner

# What decides which program runs a batch.
Shape: TypeAlias = tuple[Any, ...]


def shapes(batches: Sequence[Batch]) -> set[Shape]:
    """The shapes of some batches."""
    return {(type(batch), *shape(batch)) for batch in batches}


def finest(planner: Planner) -> Planner:
    """The planner that runs its own batches from the first on, whatever is compiled."""
    return replace(planner, compiling=0) if isinstance(planner, ByLength) else planner


def filled_up(planner: ByLength) -> ByLength:
    """The planner with full batches alone, of which rows may be empty."""
    packing = planner.packing and replace(planner.packing, partial=all_rows)
    return replace(planner, rows=all_rows, packing=packing)


def coarse(planner: ByLength, counts: Sequence[int], batch_size: int | None) -> list[Batch]:
    """The planner's batches with one bucket to a doubling of lengths.

    For more tokens than a batch has, all are full, and all texts that may share rows do.
    """
    fewer = replace(planner, steps=1)
    if sum(counts) <= planner.budget:
        return fewer.plan(counts, batch_size)
    limit = 0 if planner.packing is None else planner.packing.longest
    return filled_up(fewer).by_length(counts, batch_size, limit)


class CoarseFirst:
    """Which shapes of one program are compiled, and what others would have saved so far."""

    def __init__(self) -> None:
        """Begin with no shape that is compiled."""
        self.known: set[Shape] = set()
        self.saved: defaultdict[Shape, float] = defaultdict(float)
        self.lock = Lock()

    def know(self, batches: Sequence[Batch]) -> None:
        """These batches' shapes are compiled, or about to be."""
        with self.lock:
            self.known |= shapes(batches)

    def plan(
        self,
        planner: Planner,
        counts: Sequence[int],
        batch_size: int | None,
        fits: Callable[[Sequence[Batch]], bool],
    ) -> Sequence[Batch]:
        """The planner's batches for texts of so many tokens, or coarser ones in their place.

        fits says whether memory holds some batches: coarser ones take more. Only a ByLength says
        what it costs to compile a shape (`compiling`); of any other planner the batches are its
        own.
        """
        fine = planner.plan(counts, batch_size)
        if isinstance(planner, ByLength) and planner.compiling:
            with self.lock:
                return self.chosen(planner, fine, counts, batch_size, fits)
        return fine

    def chosen(
        self,
        planner: ByLength,
        fine: Sequence[Batch],
        counts: Sequence[int],
        batch_size: int | None,
        fits: Callable[[Sequence[Batch]], bool],
    ) -> Sequence[Batch]:
        """The fine batches, if all is compiled or has paid; else what costs less now."""
        new = shapes(fine) - self.known
        if not (new and fits(fine)):  # what does not fit is refused, and nothing learned
            return fine
        plans: list[Sequence[Batch]] = [coarse(planner, counts, batch_size)]
        full = filled_up(planner).plan(counts, batch_size)
        if shapes(full) <= self.known:
            plans.append(full)
        plans = [plan for plan in plans if fits(plan)] or [fine]

        def price(batches: Sequence[Batch]) -> float:
            return cost(batches) + planner.compiling * len(shapes(batches) - self.known)

        other = min(plans, key=price)
        for one in new:
            self.saved[one] += max(0.0, cost(other) - cost(fine)) / len(new)
        paid = sum(self.saved[one] for one in new) >= planner.compiling * len(new)
        fewer = len(new) < len(shapes(other) - self.known) and price(fine) < price(other)
        batches = fine if paid or fewer else other
        self.known |= shapes(batches)
        return batches
