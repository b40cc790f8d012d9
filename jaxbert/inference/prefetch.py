"""The host a step ahead of the device: texts in windows, each prepared while the last one runs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Event, Semaphore, Thread
from typing import NamedTuple, TypeVar

from jaxbert.process import interrupts

Part = TypeVar("Part")
Result = TypeVar("Result")

OFTEN = 0.2  # seconds between two looks for a signal while the next result is awaited


class WindowSize(NamedTuple):
    """The most that is tokenised at a time; it bounds what is in memory beside the vectors."""

    texts: int
    characters: int  # a single longer text is a window of its own


WINDOW = WindowSize(8192, 2**22)


def text_windows(
    texts: Sequence[str], extra: int = 0, most: WindowSize = WINDOW
) -> Iterator[tuple[int, Sequence[str]]]:
    """(index of the first, texts that follow one another), up to so many texts and characters.

    Each text counts `extra` characters more, those of a prompt.
    """
    start = size = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == most.texts or size + len(text) + extra > most.characters):
            yield start, texts[start:i]
            start, size = i, 0
        size += len(text) + extra
    if len(texts) > start:
        yield start, texts[start:]


def prefetched(function: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[Result]:
    """function(part) of each part in order; the next is computed while the caller has the last.

    A part is taken from its iterator in the same thread, so reading runs ahead too, by one. Who
    stops early does not wait for that thread, which may be reading from a pipe that says nothing.
    """
    if isinstance(parts, list) and len(parts) == 1:
        yield function(parts[0])
        return
    found: SimpleQueue[tuple[list[Result], BaseException | None]] = SimpleQueue()
    wanted, stopped = Semaphore(1), Event()

    def work() -> None:
        try:
            iterator = iter(parts)
            while wanted.acquire() and not stopped.is_set():
                some = [function(part) for part in islice(iterator, 1)]
                found.put((some, None))
                if not some:
                    return
        except BaseException as error:
            found.put(([], error))

    Thread(target=work, daemon=True).start()
    try:
        while True:
            some, error = next_of(found)
            if error is not None:
                raise error
            if not some:
                return
            wanted.release()
            yield some[0]
    finally:
        stopped.set()
        wanted.release()


def next_of(queue: SimpleQueue[Result]) -> Result:
    """What comes next; raises Interrupted if a signal comes before."""
    while True:
        interrupts.check()
        with suppress(Empty):
            return queue.get(timeout=OFTEN)
