"""From the threads that compute to the requests: what a batch means for those it had texts of."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread

from jaxbert.inference.waiting import Asked, Waiting


@dataclass
class News:
    """What one batch means for the requests it had texts of, told to their loops in one call each.

    A loop that is closed has nobody left who waits.
    """

    done: Counter[Asked] = field(default_factory=Counter)
    failed: dict[Asked, BaseException] = field(default_factory=dict)

    def tell(self) -> None:
        """Call each loop; it is the only way from a thread to a request."""
        for loop in {asked.loop for asked in (*self.done, *self.failed)}:
            own = News(
                Counter({asked: n for asked, n in self.done.items() if asked.loop is loop}),
                {asked: e for asked, e in self.failed.items() if asked.loop is loop},
            )
            if not loop.is_closed():
                self.call(loop, own.settle)

    @staticmethod
    def call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
        """function() in the thread of the loop, unless the loop is closed meanwhile."""
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def settle(self) -> None:
        """Tell the requests, in the thread of their loop."""
        for asked, error in self.failed.items():
            asked.fail(error)
        for asked, texts in self.done.items():
            asked.done(texts)

    @classmethod
    def of_failure(cls, texts: Iterable[Waiting], error: BaseException) -> "News":
        """The requests of these texts fail, all with one error."""
        return cls(failed=dict.fromkeys((text.asked for text in texts), error))


class Teller:
    """A thread that tells news, while the one that has them goes on with the next batch.

    To call an event loop is to let it run, and it keeps Python's lock for up to 5 ms
    (sys.getswitchinterval). Told by a thread of its own, news wait until the next batch computes,
    which needs no lock.
    """

    def __init__(self) -> None:
        """Start the thread, which ends with `end`."""
        self.inbox: SimpleQueue[News | None] = SimpleQueue()
        self.thread = Thread(target=self.work, name="jaxbert-tell", daemon=True)
        self.thread.start()

    def __call__(self, news: News) -> None:
        """Tell these as soon as there is time."""
        self.inbox.put(news)

    def work(self) -> None:
        """Tell one after the other, in the order in which they came."""
        while (news := self.inbox.get()) is not None:
            news.tell()

    def end(self) -> None:
        """Wait until all news are told, and the thread has ended."""
        self.inbox.put(None)
        self.thread.join()
