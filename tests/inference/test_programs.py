"""Programs per shape, results in order, windows of texts, the next one begun."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.inference.batches import BatchArrays
from jaxbert.inference.engine import Engine
from jaxbert.inference.planning import ByLength, ByText
from jaxbert.inference.prefetch import WindowSize, prefetched, text_windows
from jaxbert.inference.programs import Program, run_jobs
from jaxbert.inference.stats import Stats, StatsCounter
from tests.models import encoder


@pytest.mark.parametrize("planner", [ByLength(budget=200, packing=None), ByText(budget=200)])
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


def test_a_program_that_was_begun_is_compiled_by_another_thread(monkeypatch):
    """Traced by the caller, since settings of JAX may be those of its thread alone."""
    threads, own = [], Program.build

    def build(self, shapes, lowered):
        threads.append(threading.current_thread())
        own(self, shapes, lowered)

    def negative(x):
        threads.append(threading.current_thread())
        return -x

    monkeypatch.setattr(Program, "build", build)
    program = Program(negative)
    for _ in range(2):
        program.begin(np.ones(3, np.float32))
    np.testing.assert_array_equal(program(np.ones(3, np.float32)), [-1.0, -1.0, -1.0])
    assert program.compilations == 1
    tracing, compiling = threads
    assert tracing is threading.current_thread() is not compiling


def test_a_compilation_that_fails_says_so_and_is_tried_again(monkeypatch):
    own = Program.build
    errors = [MemoryError("no room"), None]

    def build(self, shapes, lowered):
        if error := errors.pop(0):
            raise error
        own(self, shapes, lowered)

    monkeypatch.setattr(Program, "build", build)
    program = Program(lambda x: -x)
    program.begin(np.ones(3, np.float32))
    with pytest.raises(MemoryError, match="no room"):
        program(np.ones(3, np.float32))
    assert program.compilations == 0
    np.testing.assert_array_equal(program(np.ones(3, np.float32)), [-1.0, -1.0, -1.0])


def test_what_nobody_waits_for_is_not_compiled(monkeypatch):
    built, own, go = [], Program.build, threading.Event()

    def build(self, shapes, lowered):
        assert go.wait(60)
        built.append(shapes)
        own(self, shapes, lowered)

    monkeypatch.setattr(Program, "build", build)
    program = Program(lambda x: -x)
    for length in range(1, 12):
        program.begin(np.ones(length, np.float32))
    program.cancel()
    go.set()
    np.testing.assert_array_equal(program(np.ones(11, np.float32)), np.full(11, -1.0))
    assert ((11,),) in built
    assert len(built) <= 5  # those that had a thread, and the last


def test_threads_that_need_one_program_at_once_share_its_compilation(monkeypatch):
    built, own, begun = [], Program.build, threading.Event()

    def build(self, shapes, lowered):
        assert begun.wait(60)
        built.append(shapes)
        own(self, shapes, lowered)

    monkeypatch.setattr(Program, "build", build)
    program = Program(lambda x: -x)
    with ThreadPoolExecutor(5) as pool:
        results = [pool.submit(program, np.full(7, i, np.float32)) for i in range(5)]
        begun.set()
        for i, result in enumerate(results):
            np.testing.assert_array_equal(result.result(60), np.full(7, -i, np.float32))
    assert built == [((7,),)]


def test_all_shapes_of_a_window_are_begun_before_its_first_batch_runs():
    engine = Engine(encoder("jinabert-geglu"), Stack(), ByLength(budget=64, packing=None))
    begun, called = [], []

    class Recorded:
        def begin(self, batch, *extra):
            assert not called
            begun.append(batch.ids.shape)

        def cancel(self):
            pass

        def __call__(self, batch, *extra):
            called.append(batch.ids.shape)
            return np.ones((len(batch.ids), 3), np.float32)

    tokens = [np.full(count, 3, np.int32) for count in (5, 30, 31, 60, 17, 6)]
    found = dict(
        (int(text), row)
        for members, rows in engine.run(Recorded(), [tokens])
        for text, row in zip(members, rows, strict=True)
    )
    assert sorted(found) == list(range(6))
    assert len(begun) == len(set(begun)) > 2
    assert set(begun) == set(called)


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
