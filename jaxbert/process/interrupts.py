"""SIGINT and SIGTERM: recorded by the handler and raised by `check`, so that none is lost.

An exception raised in a handler is dropped where Python happens to run a callback of the garbage
collector or a destructor, and ends the process in the middle of other libraries' C++. So only
`check` raises.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STANDARD = (signal.SIG_DFL, signal.default_int_handler)
NOTHING = "interrupted; nothing was written"


class Interrupted(KeyboardInterrupt):
    """A signal has asked this process to end; `words` say what was written before."""

    def __init__(self, number: int, words: str = NOTHING) -> None:
        """number is the signal's; words are the message for the user."""
        super().__init__(words)
        self.number, self.words = number, words

    @property
    def status(self) -> int:
        """The exit status that shells expect, 128 + number."""
        return 128 + self.number


class Note:
    """Holds the number of the signal that has come; None if none has."""

    number: int | None = None


def received() -> int | None:
    """The number of the signal that has come within `handled`; None if none has."""
    return Note.number


def check() -> None:
    """Raise Interrupted if a signal has come; called where work can stop."""
    if Note.number is not None:
        raise Interrupted(Note.number)


def handler(number: int, _: Any) -> None:
    """Record the signal; the next one ends the process at once."""
    Note.number = number
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\njaxbert: stopping; once more ends it at once\n")


@contextmanager
def handled() -> Iterator[None]:
    """A context in which the first signal is recorded for `check`, which raises Interrupted.

    Ignored signals, such as those of a job under nohup, stay ignored. After an interrupted block
    signals keep their defaults, since the process is about to end.
    """
    Note.number = None
    before = {each: signal.getsignal(each) for each in SIGNALS}
    handled_here = [each for each, old in before.items() if old in STANDARD]
    with suppress(ValueError):  # only the main thread can set handlers
        for each in handled_here:
            signal.signal(each, handler)
    try:
        yield
    finally:
        if Note.number is None:
            with suppress(ValueError):
                for each in handled_here:
                    signal.signal(each, before[each])
