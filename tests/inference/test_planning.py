"""Plans of batches: every text once, few shapes, little padding."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxbert.errors import InputError
from jaxbert.inference import ladder, planning
from jaxbert.inference.batches import Packed, Padded
from jaxbert.inference.ladder import bucket
from jaxbert.inference.packing import CALL, Packing, cost
from jaxbert.inference.planning import (
    CHIP,
    CORE,
    ByLength,
    ByText,
    by_length,
    by_text,
    cores,
)

COUNTS = st.lists(st.integers(0, 300), max_size=120)
SHORT = st.lists(st.integers(0, 40), max_size=120)
SIZES = st.none() | st.integers(1, 70)
PLANNERS = [
    ByLength(),
    ByLength(packing=None),
    ByLength(budget=200, steps=2, packing=Packing(longest=11, length=23, texts=3)),
    ByText(),
    ByText(budget=200),
    ByLength(longest=300),
    ByText(longest=300),
]


def test_buckets():
    def buckets(steps, most):
        return sorted({bucket(tokens, steps) for tokens in range(most)})

    assert buckets(2, 1025) == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert buckets(8, 65) == [16, 32, 48, 64]
    assert buckets(8, 513)[-9:] == [256, 288, 320, 352, 384, 416, 448, 480, 512]
    for tokens in range(129, 1025):
        assert tokens <= bucket(tokens, 8) < 9 / 8 * tokens
        assert tokens <= bucket(tokens, 2) < 1.5 * tokens


@pytest.mark.parametrize("planner", PLANNERS)
@given(counts=COUNTS | SHORT, size=SIZES)
def test_every_text_is_in_one_batch_that_holds_it(planner, counts, size):
    batches = planner.plan(counts, size)
    members = [i for batch in batches for i in batch.members]
    assert sorted(members) == list(range(len(counts)))
    for batch in batches:
        assert len(batch.members) > 0
        longest = max(counts[i] for i in batch.members)
        if isinstance(batch, Padded):
            assert len(batch.members) <= batch.rows
            assert longest <= batch.length <= (planner.longest or 400)
        else:
            assert len(batch.members) <= batch.texts
            assert longest <= batch.longest
            used = np.zeros(batch.rows)
            np.add.at(used, batch.row, [counts[i] for i in batch.members])
            assert used.max() <= batch.length


@given(counts=COUNTS, size=st.integers(1, 70))
def test_batch_size_is_an_upper_bound(counts, size):
    assert all(batch.rows <= size for batch in ByLength().plan(counts, size))


@given(counts=COUNTS | SHORT, size=SIZES)
def test_under_bytext_the_shape_is_a_function_of_the_text(counts, size):
    planner = ByText()
    for batch in planner.plan(counts, size):
        assert isinstance(batch, Padded)
        for i in batch.members:
            (alone,) = planner.plan([counts[i]], 32)
            assert (alone.rows, alone.length) == (batch.rows, batch.length)


@given(counts=st.lists(st.integers(1, 8192), min_size=1, max_size=300))
def test_shapes_are_few(counts):
    shapes = {(batch.rows, batch.length) for batch in ByLength().plan(counts)}
    lengths = {length for _, length in shapes}
    assert len(shapes) <= 6 * len(lengths)  # powers of two below 32, and full
    assert len({(b.rows, b.length) for b in ByText().plan(counts)}) <= len(buckets_up_to(8192))


def buckets_up_to(most):
    return {bucket(tokens, 8) for tokens in range(most + 1)}


def test_usual_shapes_are_those_that_plans_have():
    planner = ByLength()
    usual = {(batch.rows, batch.length, type(batch)) for batch in planner.usual(500)}
    for count in (3, 16, 17, 61, 250, 500):
        full = planner.full(bucket(count, 8), None)
        for counts in ([count], [count] * (full if count > 32 else 1)):
            for batch in planner.plan(counts):
                assert (batch.rows, batch.length, type(batch)) in usual
    (batch, *_) = planner.plan([9] * 800)
    assert (batch.rows, batch.length, Packed) in usual
    assert {length for _, length, _ in usual} == buckets_up_to(500)
    fixed = {(batch.rows, batch.length) for batch in ByText().usual(100)}
    assert fixed == {ByText().shape(length) for length in buckets_up_to(100)}
    assert {b.length for b in ByText(longest=19).usual(19)} == {16, 19}


def test_a_deterministic_text_alone_runs_with_few_empty_rows_on_a_cpu(monkeypatch):
    monkeypatch.setattr(planning, "cores", lambda: 2)
    planner = by_text("cpu", 512)
    assert planner.shape(25) == (2, 32)
    assert planner.shape(200)[0] == 1
    chip = by_text("tpu", 512)
    assert all(chip.shape(t)[0] * chip.shape(t)[1] > 2**11 for t in (9, 100, 512))
    assert planner.shape(511)[1] == chip.shape(511)[1] == 512


def test_one_short_text_does_not_pay_for_a_full_batch():
    (batch,) = ByLength().plan([5])
    assert (batch.rows, batch.length) == (1, 16)
    rows = [batch.rows for batch in ByLength().plan([40] * 11)]
    assert rows == [11]
    assert sum(batch.rows for batch in ByLength().plan([40] * 13)) == 13


def test_a_few_long_texts_do_not_pad_many_short_ones():
    counts = [250, 240] + [10] * 30
    padded = sum(batch.rows * batch.length for batch in ByLength().plan(counts))
    assert padded <= 2 * 256 + 8 * 64


def test_short_texts_share_rows():
    slots = sum(batch.rows * batch.length for batch in ByLength().plan([9, 12] * 500))
    assert slots <= 1.05 * sum([9, 12] * 500)
    alone = sum(b.rows * b.length for b in ByLength(packing=None).plan([9, 12] * 500))
    assert alone >= 1.4 * slots
    apart = ByLength(together=None)
    assert all(isinstance(batch, Padded) for batch in apart.plan([20, 20, 20]))  # one row's


def test_a_few_texts_share_one_row_where_that_is_cheaper():
    (row,) = ByLength().plan([50, 9, 20, 31])
    assert (row.rows, row.length, row.longest) == (1, 112, 112)
    for counts in ([64] * 4, [112, 112], [32, 32]):  # their own rows have no more slots
        (batch,) = ByLength().plan(counts)
        assert isinstance(batch, Padded)
    assert len(ByLength().plan([200, 90])) == 2  # too many tokens
    assert all(isinstance(batch, Padded) for batch in ByLength().plan([2] * 17))  # too many texts
    assert all(batch.rows * batch.length <= 104 for batch in ByLength(budget=100).plan([60, 35]))
    assert len(ByLength(budget=100, packing=None).plan([60, 45])) == 2
    assert len(by_length("tpu", None).plan([50, 9, 20])) == 3


def test_texts_of_over_half_a_row_share_one_where_short_ones_fill_it():
    (batch,) = ByLength().plan([40, 20] * 6)
    assert (batch.rows, batch.length) == (6, 64)
    assert all(isinstance(batch, Padded) for batch in ByLength().plan([40] * 30))
    slots = sum(batch.rows * batch.length for batch in ByLength().plan([40, 10, 12] * 300))
    assert slots <= 1.06 * 62 * 300


def test_the_last_batch_of_shared_rows_has_few_empty_ones():
    for rows in range(3, 9):
        (batch,) = ByLength(together=None).plan([31, 32] * rows)
        assert (batch.rows, batch.length) == (rows, 64)
    assert [ladder.rows_in_quarters(n, 100) for n in (9, 11, 17, 99, 101)] == [10, 12, 20, 100, 100]


def test_the_cost_of_batches_is_that_of_calls_and_of_tokens():
    none = np.zeros(0, np.int64)
    short, long = Padded(none, 4, 64), Padded(none, 1, 256)
    assert cost([short, short]) == 2 * cost([short])
    assert cost([long]) > cost([short]) > cost([Padded(none, 1, 64)]) > CALL + 64


def test_the_budget_bounds_the_tokens_of_a_batch():
    for batch in ByLength(budget=1000).plan([250] * 20):
        assert batch.rows * batch.length <= 1024


def test_a_backend_has_its_planner(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(5), raising=False)
    assert by_length("cpu", 7) == ByLength(budget=5 * CORE, steps=8, longest=7)
    assert by_length("tpu", None) == ByLength(
        budget=CHIP, steps=2, packing=Packing(32, partial=ladder.rows_for), together=None
    )
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(1), raising=False)
    assert cores() == 2


def test_rows_are_filled_with_their_texts():
    tokens = [np.array(ids) for ids in ([5, 6], [], [7, 8, 9], [3])]
    padded = Padded(np.array([2, 0]), 3, 4).fill(tokens)
    np.testing.assert_array_equal(padded.ids, [[7, 8, 9, 0], [5, 6, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(padded.segments, [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(padded.positions, [[0, 1, 2, 3]])
    assert padded.token_index is None

    packing = Packing(longest=3, length=5, texts=3)
    packed = packing.batch([[2, 0], [3, 1]], 3).fill(tokens)
    np.testing.assert_array_equal(packed.ids, [[7, 8, 9, 5, 6], [3, 0, 0, 0, 0], [0] * 5])
    np.testing.assert_array_equal(packed.segments, [[1, 1, 1, 2, 2], [3, 0, 0, 0, 0], [0] * 5])
    np.testing.assert_array_equal(packed.positions, [[0, 1, 2, 0, 1], [0] * 5, [0] * 5])
    token_index = [[0, 1, 2], [3, 4, -1], [5, -1, -1], *[[-1] * 3] * 6]
    np.testing.assert_array_equal(packed.token_index, token_index)


@pytest.mark.parametrize("planner", [ByLength(), ByLength(packing=None), by_length("tpu", None)])
def test_texts_of_one_length_fill_their_batches(planner):
    for count in (*range(0, 80), 129, 140, 257, 270, 512, 513):
        batches = planner.plan([count] * 150)
        full = planner.full(bucket(count, planner.steps), None)
        assert len(batches) <= -(-150 // full) + 6, count


def test_rows_that_cannot_hold_a_text_are_refused():
    for packing in ({"longest": 100}, {"texts": 0}, {"longest": 0}):
        with pytest.raises(InputError, match="cannot hold a text"):
            Packing(**packing)


def kinds(batches):
    return {
        (type(batch), *(field for field in batch if isinstance(field, int))) for batch in batches
    }


@pytest.mark.parametrize("planner", PLANNERS)
@given(counts=COUNTS | SHORT, most=st.integers(1, 300), texts=st.integers(1, 120))
@example(counts=[20, 20, 20, 300], most=300, texts=120)  # too long for one row of all
def test_no_plan_has_a_shape_that_is_not_among_the_shapes(planner, counts, most, texts):
    counts = [min(count, most) for count in counts[:texts]]
    assert kinds(planner.plan(counts)) <= kinds(planner.shapes(most, texts))


@pytest.mark.parametrize("planner", [ByLength(), ByLength(packing=None), ByText()])
def test_every_one_of_the_shapes_can_occur(planner):
    """By texts of one length, alone or beside a long one."""
    found = set()
    for long in range(1, 301):
        for number in (*range(1, 34), 63, 64, 512):
            found |= kinds(planner.plan([long] * number))
        found |= kinds(planner.plan([long] * 3 + [300]))
    assert kinds(planner.shapes(300, 512)) <= found


@given(left=st.integers(1, 3000), full=st.integers(1, 3000))
def test_row_counts_are_those_that_there_can_be(left, full):
    for rows in (ladder.rows_for, ladder.rows_in_quarters):
        expected = {rows(n, full) for n in range(1, left + 1)}
        assert set(ladder.row_counts(rows, left, full)) == expected
