"""Turns, lanes, limits and deaths, with an engine that computes when it is told to."""

import asyncio
import threading
from collections import Counter
from functools import partial

import numpy as np
import pytest

from jaxbert.errors import (
    DeviceMemoryError,
    InputError,
    QueueClosedError,
    QueueFullError,
    QueueTimeoutError,
)
from jaxbert.inference.computers import Computer
from jaxbert.inference.model_queue import ModelQueue
from jaxbert.inference.planning import ByText
from jaxbert.inference.stats import StatsCounter
from jaxbert.inference.waiting import Listener, Speed


def run(main, limit=60):
    """The result of a coroutine function; what hangs fails."""

    async def limited():
        async with asyncio.timeout(limit):
            return await main()

    return asyncio.run(limited())


LONG = 48  # tokens of a text beyond which it is a long one


class Fake:
    """An engine whose batches take until they are let go; the row of a text is its count."""

    planner, compilations, vectors = ByText(budget=64), 0, None

    def __init__(self, gated=True):
        self.counter, self.ran, self.errors = StatsCounter(), [], {}
        self.gates = {
            kind: threading.Semaphore(0 if gated else 10**6) for kind in ("short", "long")
        }
        self.began = threading.Semaphore(0)

    def check_tokens(self, tokens):
        pass

    def dispatch(self, program, batch, tokens, skipped):
        texts = [tokens[i] for i in batch.members]
        self.ran.append([int(ids[0]) for ids in texts])
        self.began.release()
        return Result(self, texts)

    def let_go(self, batches, kind="short"):
        self.gates[kind].release(batches)


class Result:
    def __init__(self, engine, texts):
        self.engine, self.texts = engine, texts

    def rows(self):
        gate = self.engine.gates["long" if len(self.texts[0]) > LONG else "short"]
        assert gate.acquire(timeout=20)
        for text in self.texts:
            if (name := int(text[0])) in self.engine.errors:
                raise self.engine.errors[name]
        return np.array([[len(text)] for text in self.texts], np.float32), np.ones(
            len(self.texts), bool
        )


class Notes(Listener):
    """Counts of what a queue tells."""

    def __init__(self):
        self.told = Counter()

    def batch(self, length, texts, tokens, slots, seconds):
        assert slots == length * ByText(budget=64).shape(length)[0]
        self.told["batch"] += 1
        self.told["computed"] += texts
        self.told["tokens"] += tokens

    def waited(self, seconds):
        assert seconds >= 0
        self.told["begun"] += 1

    def cancelled(self, texts):
        self.told["cancelled"] += texts

    def refused(self, reason):
        self.told[reason] += 1


def queue_of(*engines, ahead=1, **options):
    """A queue of fakes; its lanes' speed is 1000 tokens a second until they measure one."""
    options = {"max_wait": 30, "timeout": 60, "long": LONG, "listener": Notes()} | options
    computers = [Computer(engine, {"rows": "program"}, ahead) for engine in engines]
    queue = ModelQueue(computers, **options)
    for lane in queue.lanes:
        lane.speed = Speed(1000.0)
    return queue


async def ask(queue, name, *counts):
    """The rows of one request; its texts have so many tokens, and its name as ids."""
    with queue.admitted("rows", counts):
        rows = [None] * len(counts)
        await queue.computed("rows", [np.full(count, name, np.int32) for count in counts], rows)
        assert [row.item() for row in rows] == list(counts)
        return name


def asked(queue, name, *counts):
    return asyncio.ensure_future(ask(queue, name, *counts))


async def begun(engine, batches=1):
    """Wait until so many more batches have begun."""
    for _ in range(batches):
        assert await asyncio.to_thread(engine.began.acquire, timeout=20)


def test_a_short_request_passes_a_long_one_that_came_before_it():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            many, few = asked(queue, 2, *[16] * 14), asked(queue, 3, 16)
            await asyncio.sleep(0)
            assert queue.load()[:2] == (15, 240)
            engine.let_go(99)
            await asyncio.gather(first, many, few)

    run(main)
    assert engine.ran[0] == [1]
    # The batch of its turn, which the texts of the other fill up.
    assert 3 in engine.ran[1]
    assert engine.ran[1:] != [[2, 2, 2, 2]] * 3
    assert sum(map(len, engine.ran)) == 16


def test_a_request_waits_no_longer_than_its_own_work_for_later_ones():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            for lane in queue.lanes:
                lane.speed = Speed(1e6)  # so that the turn of the first one is soon
            first = asked(queue, 1, 16)
            await begun(engine)
            many = asked(queue, 2, *[16] * 13)
            await asyncio.sleep(0.05)
            late = asked(queue, 3, 16)
            await asyncio.sleep(0)
            engine.let_go(99)
            await asyncio.gather(first, many, late)

    run(main)
    assert engine.ran == [[1], [2] * 4, [2] * 4, [2] * 4, [2, 3]]


def test_the_batch_of_the_first_turn_runs_and_takes_texts_of_its_length_along():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            rest = [asked(queue, 2 + i, count) for i, count in enumerate((30, 16, 31, 15, 16))]
            await asyncio.sleep(0)
            for _ in range(2):
                engine.let_go(1)
                await begun(engine)
            engine.let_go(1)
            await asyncio.gather(first, *rest)

    run(main)
    # 15 tokens have the first turn; those of 30 and 31 get a batch of their own behind it.
    assert engine.ran == [[1], [5, 3, 6], [2, 4]]


@pytest.mark.parametrize("grows", [True, False])
def test_a_batch_that_is_not_full_lets_a_larger_one_pass_once(grows):
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            rest = [asked(queue, 2, 5), asked(queue, 3, *[30] * 8)]
            await asyncio.sleep(0)
            engine.let_go(1)
            await begun(engine)
            if grows:
                rest.append(asked(queue, 4, 16))  # of the smaller batch
            await asyncio.sleep(0)
            engine.let_go(99)
            await asyncio.gather(first, *rest)

    run(main)
    smaller = [2, 4] if grows else [2]
    assert engine.ran == [[1], [3, 3], smaller, [3, 3], [3, 3], [3, 3]]


def test_a_long_text_alone_does_not_pass():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 100)
            await begun(engine)
            rest = [asked(queue, 2, 60), asked(queue, 3, 300)]
            await asyncio.sleep(0)
            engine.let_go(9, "long")
            await asyncio.gather(first, *rest)

    run(main)
    assert engine.ran == [[1], [2], [3]]


def test_a_long_text_does_not_hold_up_short_ones():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            document = asked(queue, 1, 200)
            await begun(engine)
            engine.let_go(9)
            await asyncio.gather(*(asked(queue, 2 + i, 16) for i in range(9)))
            assert not document.done()
            engine.let_go(1, "long")
            assert await document == 1

    run(main)


def test_where_nothing_else_waits_two_batches_are_on_their_way():
    engine = Fake()

    async def main():
        async with queue_of(engine, ahead=2) as queue:
            requests = [asked(queue, i, 16) for i in range(13)]
            await begun(engine, 2)
            await asyncio.sleep(0.05)
            assert len(engine.ran) == 2
            engine.let_go(1)
            await begun(engine)
            engine.let_go(99)
            assert await asyncio.gather(*requests) == list(range(13))

    run(main)


def test_texts_nobody_waits_for_do_not_run():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            gone = [asked(queue, 2, *[16] * 64) for _ in range(20)]
            kept = asked(queue, 3, 16)
            await asyncio.sleep(0)
            assert queue.load().texts == 20 * 64 + 1
            for future in gone:
                future.cancel()
            await asyncio.wait(gone)
            assert all(future.cancelled() for future in gone)
            assert queue.load()[:2] == (1, 16)
            engine.let_go(2)
            await asyncio.gather(first, kept)
            return queue.listener.own.told

    told = run(main)
    assert engine.ran == [[1], [3]]
    assert told["cancelled"] == 20 * 64
    assert told["begun"] == told["computed"] == 2


def test_a_request_that_is_cancelled_in_its_batch_leaves_the_others_alone():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            gone, kept = asked(queue, 2, 16, 16), asked(queue, 3, 16)
            await asyncio.sleep(0)
            engine.let_go(1)
            await begun(engine)
            gone.cancel()
            engine.let_go(1)
            assert await asyncio.gather(first, kept) == [1, 3]

    run(main)
    assert engine.ran == [[1], [3, 2, 2]]


def test_a_full_queue_refuses_and_says_when_to_come_again():
    engine = Fake()

    async def main():
        async with queue_of(engine, max_wait=1) as queue:
            large = asked(queue, 1, *[16] * 1000)  # 16 seconds, taken since nothing waits
            await begun(engine)
            with pytest.raises(QueueFullError, match="max_wait") as refused:
                await ask(queue, 2, *[16] * 1000)
            assert 13 < refused.value.retry_after < 15.1
            assert queue.load().seconds == pytest.approx(16, rel=0.1)
            assert queue.listener.own.told["full"] == 1
            long = asked(queue, 3, 200)  # of the other lane, which has time
            await asyncio.sleep(0)
            large.cancel()
            await asyncio.wait([large])
            again = asked(queue, 4, *[16] * 1000)
            await asyncio.sleep(0)
            engine.let_go(999)
            engine.let_go(99, "long")
            assert await asyncio.gather(again, long) == [4, 3]

    run(main)


def test_a_request_that_is_before_all_that_waits_is_taken():
    engine = Fake()

    async def main():
        async with queue_of(engine, max_wait=1) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            large = asked(queue, 2, *[16] * 1000)
            await asyncio.sleep(0)
            small = [asked(queue, 3 + i, 16) for i in range(70)]
            found = asyncio.gather(*small, return_exceptions=True)
            await asyncio.sleep(0)
            engine.let_go(999)
            await asyncio.gather(first, large)
            return await found

    found = run(main)
    # 62 of them are work for a second, which is before those that come then.
    taken = [name for name in found if not isinstance(name, QueueFullError)]
    assert taken == list(range(3, 3 + len(taken)))
    assert 62 <= len(taken) < 70


def test_a_request_that_cannot_be_in_time_is_refused_at_once():
    engine = Fake(gated=False)

    async def main():
        async with queue_of(engine, timeout=2) as queue:
            assert await ask(queue, 1, *[16] * 130) == 1  # the speed is a guess yet
            queue.lanes[0].speed = Speed(1000.0, batches=30)
            ran = len(engine.ran)
            with pytest.raises(
                InputError, match=r"2080 tokens, which take 2 s .* for 2 s is dropp"
            ):
                await ask(queue, 2, *[16] * 130)
            assert len(engine.ran) == ran
            queue.lanes[0].speed = Speed(1000.0, batches=30)
            assert await ask(queue, 3, *[16] * 124) == 3

    run(main)


def test_what_the_warmup_has_not_compiled_goes_with_the_long_texts():
    engine = Fake(gated=False)
    engine.prepare = lambda program, shapes, typed: len(shapes)

    def lanes(queue):
        kinds = [("rows", 33), ("rows", 32), ("states", 7)]
        return [queue.lanes.index(queue.lane(kind, tokens)) for kind, tokens in kinds]

    async def main():
        async with queue_of(engine) as queue:
            before = lanes(queue)
            assert await queue.prepared("rows", 32) == 2
            return before, lanes(queue), queue.shares("rows", [32, 33, 5])

    before, after, ((_, short), (_, long)) = run(main)
    assert (before, after) == ([0, 0, 0], [1, 0, 1])
    assert (short, long) == (37, 33)


def test_what_is_not_tokenised_yet_counts_as_waiting():
    """Else a flood of large requests is accepted before the first of them has a token."""
    engine, reading = Fake(gated=False), threading.Event()

    async def main():
        async with queue_of(engine, max_wait=1) as queue:
            reads = queue.tokenised_in_thread("rows", [2000] * 13, reading.wait)
            large = asyncio.ensure_future(reads)
            await asyncio.sleep(0)
            assert queue.lanes[1].load().seconds == 26
            with pytest.raises(QueueFullError):
                await ask(queue, 1, *[2000] * 13)
            assert await ask(queue, 2, 16) == 2
            assert await ask(queue, 3, 200) == 3
            reading.set()
            assert await large is True
            assert queue.load().seconds == 0

    run(main)


def test_what_waits_too_long_is_dropped_and_what_runs_is_answered():
    engine = Fake()

    async def main():
        async with queue_of(engine, timeout=0.2) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            with pytest.raises(QueueTimeoutError, match=r"2 texts waited for 0\.2 s"):
                await ask(queue, 2, 16, 16)
            assert queue.load().texts == 0
            engine.let_go(1)
            assert await first == 1
            assert queue.listener.own.told["timeout"] == 1

    run(main)
    assert engine.ran == [[1]]


def test_a_batch_that_memory_does_not_hold_fails_alone():
    engine = Fake(gated=False)
    engine.errors = {2: DeviceMemoryError("too large"), 3: RuntimeError("RESOURCE_EXHAUSTED: 7 GB")}

    async def main():
        async with queue_of(engine) as queue:
            for name, error in ((2, DeviceMemoryError), (3, RuntimeError)):
                with pytest.raises(error):
                    await ask(queue, name, 16, 16)
                assert await ask(queue, 1, 16) == 1
            assert queue.healthy

    run(main)


@pytest.mark.parametrize("ahead", [1, 2])
def test_a_lane_that_dies_fails_what_waits_and_says_so(ahead):
    engine = Fake()
    engine.errors = {1: RuntimeError("the device is gone")}

    async def main():
        async with queue_of(engine, ahead=ahead) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            rest = [asked(queue, 2, *[16] * 9), asked(queue, 3, 16, 200)]
            await asyncio.sleep(0)
            assert queue.healthy
            engine.let_go(99)
            engine.let_go(99, "long")
            found = await asyncio.gather(first, *rest, return_exceptions=True)
            assert [type(error) for error in found] == [QueueClosedError] * 3
            assert "RuntimeError: the device is gone" in str(found[0])
            assert not queue.healthy
            with pytest.raises(QueueClosedError):
                await ask(queue, 4, 16)
            assert queue.load().texts == 0

    run(main)


def test_a_planner_that_fails_ends_the_lane_too():
    engine = Fake()

    class Broken:
        def plan(self, counts, batch_size):
            raise ZeroDivisionError

    async def main():
        async with queue_of(engine) as queue:
            for lane in queue.lanes:
                lane.planner = Broken()
            with pytest.raises(QueueClosedError, match="ZeroDivisionError"):
                await ask(queue, 1, 16)
            assert not queue.healthy

    run(main)


def test_closing_answers_what_was_accepted_and_refuses_the_rest():
    engine, reading = Fake(), threading.Event()

    async def still_read(queue):
        with queue.admitted("rows", [16]):
            wait = partial(reading.wait, timeout=20)
            assert await queue.tokenised_in_thread("rows", [16], wait)
            rows = [None]
            await queue.computed("rows", [np.full(16, 99, np.int32)], rows)
            return rows[0].item()

    async def main():
        queue = queue_of(engine)
        last = asyncio.ensure_future(still_read(queue))
        requests = [asked(queue, i, 16, 200) for i in range(40)]
        await begun(engine)
        closing = asyncio.ensure_future(queue.close())
        await asyncio.sleep(0.05)
        with pytest.raises(QueueClosedError):
            await ask(queue, 1, 16)
        assert queue.listener.own.told["closed"] == 1
        assert not closing.done()
        engine.let_go(99)
        engine.let_go(99, "long")
        assert await asyncio.gather(*requests) == list(range(40))
        assert not closing.done()
        reading.set()
        await closing
        assert await last == 16
        assert not any(thread.is_alive() for lane in queue.lanes for thread in lane.threads)

    run(main)


def test_two_devices_share_what_waits():
    engines = Fake(), Fake()

    async def main():
        async with queue_of(*engines) as queue:
            first = [asked(queue, 1, 16)]
            while not any(engine.ran for engine in engines):
                await asyncio.sleep(0.01)
            first.append(asked(queue, 2, 16))
            await asyncio.gather(*(begun(engine) for engine in engines))
            rest = [asked(queue, 3 + i, 16) for i in range(8)]
            await asyncio.sleep(0)
            engines[1].let_go(99)  # the other one goes on with its first batch
            await asyncio.gather(*rest)
            engines[0].let_go(1)
            await asyncio.gather(*first)

    run(main)
    assert len(engines[0].ran) == 1
    assert len(engines[1].ran) == 3


def test_what_waits_for_two_devices_takes_half_as_long():
    async def seconds(*engines):
        async with queue_of(*engines) as queue:
            first = []
            for i in range(len(engines)):
                first.append(asked(queue, 1, 16))
                while sum(len(engine.ran) for engine in engines) <= i:
                    await asyncio.sleep(0.01)
            rest = asked(queue, 2, *[16] * 50)
            await asyncio.sleep(0)
            (turn,) = {text.turn - text.asked.arrived for text in queue.lanes[0].waiting}
            waits = queue.load().seconds
            for engine in engines:
                engine.let_go(99)
            await asyncio.gather(*first, rest)
            return waits, turn

    assert run(lambda: seconds(Fake())) == pytest.approx((0.8, 0.8))
    assert run(lambda: seconds(Fake(), Fake())) == pytest.approx((0.4, 0.4))


@pytest.mark.parametrize("method", ["batch", "waited", "cancelled", "refused"])
def test_a_listener_that_fails_leaves_no_request_without_an_answer(method, caplog):
    engine, notes = Fake(), Notes()

    def broken(*_):
        raise ZeroDivisionError(method)

    setattr(notes, method, broken)

    async def main():
        async with queue_of(engine, timeout=0.2, listener=notes) as queue:
            first = asked(queue, 1, 16)
            await begun(engine)
            with pytest.raises(QueueTimeoutError):
                await ask(queue, 2, 16)
            engine.let_go(2)
            assert await first == 1
            assert await ask(queue, 3, 16) == 3
            assert queue.healthy

    run(main, limit=20)
    assert f"ZeroDivisionError: {method}" in caplog.text


def test_the_speed_is_that_of_the_last_batches():
    speed = Speed(1000.0)
    assert speed(500) == 0.5
    for _ in range(99):
        speed.measured(100, 0.5)
    assert speed(100) == pytest.approx(0.5, rel=1e-3)


def test_a_request_of_a_loop_that_has_ended_harms_nobody():
    engine = Fake()

    async def main():
        async with queue_of(engine) as queue:

            def short():
                async def leave():
                    future = asked(queue, 1, 16, 16)
                    await begun(engine)
                    future.cancel()

                asyncio.run(leave())

            await asyncio.to_thread(short)
            engine.let_go(9)
            assert await ask(queue, 2, 16) == 2
            assert queue.healthy

    run(main)
