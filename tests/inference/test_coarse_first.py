"""Coarse batches first, the planner's own once they are compiled or have paid for it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert import Embedder
from jaxbert.inference.batches import Padded
from jaxbert.inference.coarse_first import CoarseFirst, coarse, filled_up, shapes
from jaxbert.inference.engines import COMPILING
from jaxbert.inference.packing import CALL, Packing, cost
from jaxbert.inference.planning import ByLength, ByText
from tests.models import write_folder

COMPILE = 997
PLANNERS = [
    ByLength(compiling=COMPILE),
    ByLength(packing=None, together=None, compiling=COMPILE),
    ByLength(200, 2, packing=Packing(longest=11, length=23, texts=3), compiling=COMPILE),
    ByLength(longest=300, compiling=COMPILE),
]


def fits(batches):
    """As if memory had no end."""
    return True


LISTS = st.lists(st.lists(st.integers(0, 300), max_size=60), max_size=7)
RANDOM = np.random.default_rng(0)
MIXED = [RANDOM.integers(1, 300, size).tolist() for size in (101, 103, 107)]


@pytest.mark.parametrize("planner", PLANNERS)
@given(lists=LISTS, size=st.none() | st.integers(1, 17))
def test_every_text_is_in_one_batch_that_holds_it(planner, lists, size):
    choice = CoarseFirst()
    for counts in lists:
        batches = choice.plan(planner, counts, size, fits)
        members = [i for batch in batches for i in batch.members]
        assert sorted(members) == list(range(len(counts)))
        for batch in batches:
            assert max(counts[i] for i in batch.members) <= batch.length <= (planner.longest or 512)
            assert len(batch.members) <= getattr(batch, "texts", batch.rows)


def paid(planner, lists):
    """What lists one after another cost in all, with what is compiled for them."""
    choice, total = CoarseFirst(), 0.0
    for counts in lists:
        before = set(choice.known)
        batches = choice.plan(planner, counts, None, fits)
        assert shapes(batches) <= choice.known
        total += cost(batches) + planner.compiling * len(choice.known - before)
    return total


@pytest.mark.parametrize("planner", PLANNERS)
@pytest.mark.parametrize("times", [1, 2, 5, 13, 40, 160])
def test_no_lists_cost_more_than_twice_what_they_need(planner, times):
    """What they need: all shapes at once, or coarse ones for ever; the same lists so many times."""
    lists = MIXED * times
    fine = [planner.plan(counts, None) for counts in lists]
    rough = [coarse(planner, counts, None) for counts in lists]
    needed = []
    for plans in (fine, rough):
        kinds = set().union(*map(shapes, plans))
        needed.append(sum(map(cost, plans)) + planner.compiling * len(kinds))
    # One list more may be coarse than has paid, and coarse shapes are compiled beside fine ones.
    more = max(map(cost, rough)) + planner.compiling * len(set().union(*map(shapes, rough)))
    assert paid(planner, lists) <= 2 * min(needed) + more


def test_a_list_that_comes_again_gets_the_planners_batches_in_the_end():
    (planner, *_), choice, (counts, *_) = PLANNERS, CoarseFirst(), MIXED
    fine = planner.plan(counts, None)
    waste = cost(coarse(planner, counts, None)) - cost(fine)
    needed = int(COMPILE * len(shapes(fine)) / waste) + 1
    same = [
        shapes(choice.plan(planner, counts, None, fits)) == shapes(fine) for _ in range(needed + 2)
    ]
    assert same[-1]
    assert not any(same[: needed // 2])
    assert same == sorted(same), "once they have paid they stay"


def test_the_first_list_has_few_shapes_and_the_next_has_no_others():
    planner, choice = replace(PLANNERS[0], compiling=10**6), CoarseFirst()
    for counts in MIXED:
        choice.plan(planner, counts, None, fits)
        assert len(choice.known) <= 4  # shared rows, 128, 256 and 512 tokens
        assert len(shapes(planner.plan(counts, None))) > 8


def test_one_text_runs_in_the_next_power_of_two_until_its_own_length_has_paid():
    planner, choice = PLANNERS[0], CoarseFirst()
    lengths = [choice.plan(planner, [40], None, fits)[0].length for _ in range(2 * COMPILE // 16)]
    own = lengths.index(48)
    assert set(lengths[:own]) == {64}
    assert set(lengths[own:]) == {48}
    saved = cost(coarse(planner, [40], None)) - cost(planner.plan([40], None))
    assert own == pytest.approx(COMPILE / saved, abs=2)


def test_shapes_that_are_compiled_are_taken_full_before_partial_ones_are():
    """After a warm-up only batches that are not full would be new: rows stay empty instead."""
    planner, choice = replace(PLANNERS[0], compiling=10**6), CoarseFirst()
    choice.know(planner.usual(512))
    (counts, *_) = MIXED
    batches = choice.plan(planner, counts, None, fits)
    assert shapes(batches) == shapes(filled_up(planner).plan(counts, None))
    assert cost(batches) < 1.1 * cost(planner.plan(counts, None)) + 4 * CALL


def test_what_is_known_is_planned_as_ever():
    choice = CoarseFirst()
    for planner in (ByLength(), ByText()):  # of which nobody said what a compilation costs
        for counts in MIXED:
            plan = choice.plan(planner, counts, None, fits)
            assert shapes(plan) == shapes(planner.plan(counts, None))
    for counts in MIXED:
        choice.know(PLANNERS[0].plan(counts, None))
        plan = choice.plan(PLANNERS[0], counts, None, fits)
        assert shapes(plan) == shapes(PLANNERS[0].plan(counts, None))


def test_embedding_lists_compiles_coarse_shapes(minilm):
    """The vectors stay those of the planner's own batches but for rounding."""
    embedder = Embedder.from_pretrained(minilm)
    assert embedder.planner.compiling == COMPILING // (6 * 384 * (4 * 384 + 2 * 1536 + 13))
    texts = ["word " * n for n in (3, 19, 53, 67, 83, 97, 109)] * 3
    found = embedder.encode(texts)
    assert embedder.compilations <= 2
    parts = (embedder.encoder, embedder.tokenizer, embedder.stack)
    own = Embedder(*parts, replace(embedder.planner, compiling=0))
    np.testing.assert_allclose(found, own.encode(texts), atol=5e-7)
    assert own.compilations > embedder.compilations


def test_a_warmup_is_known(tmp_path):
    """Lists of short texts then find full batches of their own lengths."""
    embedder = Embedder.from_pretrained(write_folder(tmp_path, "jinabert-geglu"))
    embedder.max_seq_length = 97
    compiled = embedder.warmup(97)
    embedder.encode(["a b c d e " * n for n in (13, 17, 19)] * 17)
    assert embedder.compilations == compiled, "128 would be a new length"


def test_a_shape_that_one_list_pays_for_is_compiled_at_once():
    """And so are fewer shapes than the coarse batches have."""
    planner, choice = PLANNERS[0], CoarseFirst()
    (batch,) = choice.plan(planner, [4200], None, fits)
    assert batch.length == 4608
    planner, choice = replace(planner, compiling=10**6), CoarseFirst()
    (counts, *_) = MIXED
    fine = planner.plan(counts, None)
    choice.know([batch for batch in fine if shapes([batch]) != shapes(fine[:1])])
    assert len(shapes(fine) - choice.known) == 1
    assert shapes(choice.plan(planner, counts, None, fits)) == shapes(fine)


def test_what_is_compiled_runs_rather_than_what_costs_less_and_is_not():
    planner, choice = replace(PLANNERS[0], compiling=10**6), CoarseFirst()
    full = Padded(np.arange(0), 11, 48)
    choice.know([full])
    assert shapes(choice.plan(planner, [40], None, fits)) == shapes([full])
    choice.know([Padded(np.arange(0), 1, 64)])
    (batch,) = choice.plan(planner, [40], None, fits)
    assert (batch.rows, batch.length) == (1, 64)


def test_coarse_batches_that_memory_does_not_hold_do_not_run():
    planner, choice = replace(PLANNERS[0], compiling=10**6), CoarseFirst()
    counts = [300] * 7 + [30] * 53
    assert max(batch.length for batch in choice.plan(planner, counts, None, fits)) == 512
    fine, choice = planner.plan(counts, None), CoarseFirst()

    def little(batches):
        return max(batch.length for batch in batches) <= 320

    assert shapes(choice.plan(planner, counts, None, little)) == shapes(fine)
    assert shapes(fine) <= choice.known
    # What does not fit at all is the planner's own, for the engine to refuse, and is not known.
    choice = CoarseFirst()
    refused = choice.plan(planner, counts, None, lambda batches: False)
    assert shapes(refused) == shapes(fine)
    assert not choice.known
    assert not choice.saved
