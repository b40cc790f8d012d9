"""Programs per shape, results in order, windows of texts, the next one begun."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.planning import ByLength, ByText
from jaxbert.inference.prefetch import WindowSize, prefetched, text_windows
from jaxbert.inference.programs import Program, run_jobs
from jaxbert.inference.stats import Stats, StatsCounter

# Planners whose rows hold one text each.
APART = [ByLength(budget=200, packing=None, together=None), ByText(budget=200)]


@pytest.mark.parametrize("planner", APART)
@given(counts=st.lists(st.integers(1, 70), max_size=40))
def test_rows_come_back_to_their_texts(planner, counts):
    tokens = [np.full(count, i + 1, np.int32) for i, count in enumerate(counts)]
    jobs = ((batch.members, batch.fill(tokens)) for batch in planner.plan(counts, 8))
    sums = np.zeros(len(counts))
    for members, rows in run_jobs(lambda filled: filled.ids * filled.segments, jobs):
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
    assert program.seconds > 0
    assert traces == [(3,), (5,)]


def test_threads_that_meet_a_new_shape_compile_it_once(monkeypatch):
    """All of them while the first one still compiles; other shapes are not held up by it."""
    compiling, others, made = threading.Event(), threading.Event(), []
    program = Program(lambda x: x + x)
    anew = program.compiled_anew

    def slow(shapes, arrays):
        made.append(shapes)
        if shapes == ((3,),):
            compiling.set()
            assert others.wait(timeout=60)
        return anew(shapes, arrays)

    monkeypatch.setattr(program, "compiled_anew", slow)
    same = [threading.Thread(target=program, args=(np.ones(3, np.float32),)) for _ in range(4)]
    for thread in same:
        thread.start()
    assert compiling.wait(timeout=60)
    np.testing.assert_array_equal(program(np.ones(5, np.float32)), np.full(5, 2.0))
    others.set()
    for thread in same:
        thread.join()
    assert made == [((3,),), ((5,),)]
    assert program.compilations == 2


def test_arrays_that_are_not_there_are_another_shape():
    zeros = np.zeros((1, 2), np.int32)
    program = Program(lambda batch: batch.ids if batch.token_index is None else batch.token_index)
    assert program(BatchArrays(zeros, zeros, zeros, None)).shape == (1, 2)
    assert program(BatchArrays(zeros, zeros, zeros, np.zeros((3, 4), np.int32))).shape == (3, 4)


def test_jobs_are_taken_as_they_are_needed():
    taken = []

    def jobs():
        for i in range(5):
            taken.append(i)
            yield np.array([i]), np.full(1, i)

    results = run_jobs(lambda x: x, jobs())
    next(results)
    assert taken == [0, 1]  # one result, and one on its way
    assert [int(rows[0]) for _, rows in results] == [1, 2, 3, 4]


@given(
    texts=st.lists(st.text(max_size=9), max_size=20),
    extra=st.integers(0, 3),
    most=st.tuples(st.integers(1, 5), st.integers(1, 15)),
)
def test_windows_hold_every_text_in_order_and_are_bounded(texts, extra, most):
    parts = list(text_windows(texts, extra, WindowSize(*most)))
    assert [text for _, part in parts for text in part] == texts
    for first, part in parts:
        assert list(texts[first : first + len(part)]) == list(part)
        assert 1 <= len(part) <= most[0]
        assert len(part) == 1 or sum(map(len, part)) + len(part) * extra <= most[1]


def test_the_next_part_is_begun_before_the_last_is_used():
    begun = [threading.Event() for _ in range(4)]

    def work(i):
        begun[i].set()
        return i

    for i, result in enumerate(prefetched(work, range(4))):
        assert result == i
        assert i == 3 or begun[i + 1].wait(timeout=60)
        assert i > 1 or not begun[i + 2].is_set()
    assert list(prefetched(work, [3])) == [3]
    assert list(prefetched(work, [])) == []


def test_an_error_in_a_part_reaches_the_caller_in_order():
    results = prefetched(lambda i: 6 // i, [3, 2, 0, 1])
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_stats_add_up_and_subtract():
    counter = StatsCounter()
    counter.add(texts=3, tokens=30, slots=40, batches=2, seconds=1.5)
    before = counter.total
    counter.add(texts=1, tokens=8, slots=16, seconds=0.5)
    assert counter.total == Stats(4, 38, 56, 2, 0, 0, 2.0)
    since = counter.total - before
    assert (since.texts, since.padding_efficiency) == (1, 0.5)
    assert since.tokens_per_second == 16
    assert Stats().padding_efficiency == 1
    assert Stats().tokens_per_second == 0
    assert Stats(tokens=10, seconds=3.0, compile_seconds=1.0).tokens_per_second == 5
    assert "4 texts, 38 tokens in 2.00 s, 19 tokens/s" in str(counter.total)
    assert "padding efficiency 0.679" in str(counter.total)
