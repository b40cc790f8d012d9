"""The host one step ahead of the device: windows of texts, each prepared while the last runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

from jaxbert.process import interrupts

Item = TypeVar("Item")
Result = TypeVar("Result")

OFTEN = 0.2  # seconds between two checks for a signal while waiting for a result


class WindowSize(NamedTuple):
    """The most that is tokenised at a time, which bounds the memory besides the vectors."""

    texts: int
    characters: int  # a single longer text is a window of its own


WINDOW = WindowSize(8192, 2**22)


def text_windows(
    texts: Sequence[str], extra: int = 0, most: WindowSize = WINDOW
) -> Iterator[tuple[int, Sequence[str]]]:
    """(index of the first text, the texts) of windows of at most this size, in order.

    Each text counts `extra` characters more, those of a prompt.
    """
    for start, stop in spans([len(text) + extra for text in texts], most):
        yield start, texts[start:stop]


def spans(sizes: Sequence[int], most: WindowSize) -> Iterator[tuple[int, int]]:
    """(first, one past the last) of windows of texts of these numbers of characters, in order."""
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and (i - start == most.texts or total + size > most.characters):
            yield start, i
            start, total = i, 0
        total += size
    if len(sizes) > start:
        yield start, len(sizes)


def prefetched(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """function(item) of each item in order; the next is computed while the caller uses the last.

    An item is taken from its iterator in a thread, so reading runs ahead too, by one. A caller who
    stops early does not wait for that thread, which may be blocked in a read from a pipe.
    """
    if isinstance(items, list) and len(items) == 1:
        yield function(items[0])
        return
    results: SimpleQueue[tuple[list[Result], BaseException | None]] = SimpleQueue()
    wanted, stopped = Semaphore(1), Event()

    def work() -> None:
        try:
            iterator = iter(items)
            while wanted.acquire() and not stopped.is_set():
                result = [function(item) for item in islice(iterator, 1)]  # empty at the end
                results.put((result, None))
                if not result:
                    return
        except BaseException as error:
            results.put(([], error))

    Thread(target=work, daemon=True).start()
    try:
        while True:
            result, error = next_of(results)
            if error is not None:
                raise error
            if not result:
                return
            wanted.release()
            yield result[0]
    finally:
        stopped.set()
        wanted.release()


def next_of(queue: SimpleQueue[Result]) -> Result:
    """The next item of the queue. Raises Interrupted if a signal comes first."""
    while True:
        interrupts.check()
        with suppress(Empty):
            return queue.get(timeout=OFTEN)
