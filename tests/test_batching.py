"""Plans of batches: every text once, few shapes, little padding; the runner's order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert.batching import ByLength, ByText, rung
from jaxbert.runner import Program, run

COUNTS = st.lists(st.integers(0, 300), max_size=120)
PLANNERS = [ByLength(), ByText(), ByLength(longest=300), ByText(longest=300)]


def test_the_ladder():
    rungs = sorted({rung(tokens) for tokens in range(1025)})
    assert rungs == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    for tokens in range(33, 1025):
        assert tokens <= rung(tokens) < 1.5 * tokens


@pytest.mark.parametrize("planner", PLANNERS)
@given(counts=COUNTS, batch_size=st.integers(1, 70))
def test_every_text_is_in_one_batch_that_holds_it(planner, counts, batch_size):
    batches = planner.plan(counts, batch_size)
    members = [i for batch in batches for i in batch.members]
    assert sorted(members) == list(range(len(counts)))
    for batch in batches:
        assert 0 < len(batch.members) <= batch.rows
        assert max(counts[i] for i in batch.members) <= batch.length <= (planner.longest or 400)


@given(counts=COUNTS, batch_size=st.integers(1, 70))
def test_batch_size_is_an_upper_bound(counts, batch_size):
    assert all(batch.rows <= batch_size for batch in ByLength().plan(counts, batch_size))


@given(counts=COUNTS, batch_size=st.integers(1, 70))
def test_under_bytext_the_shape_is_a_function_of_the_text(counts, batch_size):
    planner = ByText()
    for batch in planner.plan(counts, batch_size):
        for i in batch.members:
            (alone,) = planner.plan([counts[i]], 32)
            assert (alone.rows, alone.length) == (batch.rows, batch.length)


@given(counts=st.lists(st.integers(1, 8192), min_size=1, max_size=300))
def test_shapes_are_few(counts):
    shapes = {(batch.rows, batch.length) for batch in ByLength().plan(counts, 32)}
    lengths = {length for _, length in shapes}
    assert len(shapes) <= 6 * len(lengths)  # rows are powers of two up to 32
    assert len({(b.rows, b.length) for b in ByText().plan(counts, 32)}) <= 20


def test_one_short_text_does_not_pay_for_a_full_batch():
    (batch,) = ByLength().plan([5], 32)
    assert (batch.rows, batch.length) == (1, 16)
    rows = [batch.rows for batch in ByLength().plan([5] * 33, 32)]
    assert rows == [32, 1]
    assert sum(batch.rows for batch in ByLength().plan([5] * 21, 32)) <= 24


def test_a_few_long_texts_do_not_pad_many_short_ones():
    counts = [250, 240] + [10] * 30
    padded = sum(batch.rows * batch.length for batch in ByLength().plan(counts, 32))
    assert padded <= 2 * 256 + 32 * 16


def test_the_budget_bounds_the_tokens_of_a_batch():
    for batch in ByLength(budget=1000).plan([250] * 20, 32):
        assert batch.rows * batch.length <= 1024


@pytest.mark.parametrize("planner", [ByLength(budget=200), ByText(budget=200)])
@given(counts=st.lists(st.integers(1, 70), max_size=40))
def test_rows_come_back_to_their_texts(planner, counts):
    tokens = [np.full(count, i + 1, np.int32) for i, count in enumerate(counts)]
    sums = np.zeros(len(counts))
    for members, rows in run(lambda ids, segments: ids * segments, planner.plan(counts, 8), tokens):
        assert len(members) == len(rows)
        sums[members] = rows.sum(axis=1)
    np.testing.assert_array_equal(sums, [count * (i + 1) for i, count in enumerate(counts)])


def test_a_program_is_compiled_once_per_shape():
    traces = []

    def double(scale, x):
        traces.append(x.shape)
        return scale * x

    program = Program(double, np.float32(2.0))
    for length in (3, 5, 3, 5, 5):
        np.testing.assert_array_equal(program(np.ones(length, np.float32)), np.full(length, 2.0))
    assert program.compilations == 2
    assert traces == [(3,), (5,)]
