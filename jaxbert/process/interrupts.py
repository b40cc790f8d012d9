"""SIGINT and SIGTERM: a note that the work asks for, so that none is lost or ends in a traceback.

An exception that a handler raises is dropped where Python happens to run a callback of the garbage
collector or a destructor, and ends the process in the middle of other libraries' C++. So nothing is
raised but by `check`.
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
    """A signal that asks this process to end, and what it finds to say about that."""

    def __init__(self, number: int, words: str = NOTHING) -> None:
        """number is that of the signal."""
        super().__init__(words)
        self.number, self.words = number, words

    @property
    def status(self) -> int:
        """The exit status that shells expect."""
        return 128 + self.number


class Note:
    """The signal that has come, if one has."""

    number: int | None = None


def received() -> int | None:
    """The signal that has come within `handled`, if one has."""
    return Note.number


def check() -> None:
    """Raises Interrupted if a signal has come; to be asked where work can stop."""
    if Note.number is not None:
        raise Interrupted(Note.number)


def handler(number: int, _: Any) -> None:
    """Leave a note; the next signal ends the process at once."""
    Note.number = number
    for own in SIGNALS:
        signal.signal(own, signal.SIG_DFL)
    with suppress(OSError):
        if os.isatty(2):
            os.write(2, b"\njaxbert: stopping; once more ends it at once\n")


@contextmanager
def handled() -> Iterator[None]:
    """Within the block the first of these signals is noted for `check`, which raises Interrupted.

    Signals that are ignored, as those of a job under nohup, stay so. Behind an interrupted block
    signals keep their defaults, for then the process is about to end.
    """
    Note.number = None
    before = {own: signal.getsignal(own) for own in SIGNALS}
    ours = [own for own, old in before.items() if old in STANDARD]
    with suppress(ValueError):  # another thread than the main one cannot take signals
        for own in ours:
            signal.signal(own, handler)
    try:
        yield
    finally:
        if Note.number is None:
            with suppress(ValueError):
                for own in ours:
                    signal.signal(own, before[own])
