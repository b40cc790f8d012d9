"""SIGINT and SIGTERM: a flag that the work asks, so that none is lost in somebody's callback.

An exception that a handler raises is dropped where Python happens to run a callback of the garbage
collector or a destructor. So the handler also leaves a note, which `check` finds.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
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
    """Leave a note, raise; the next signal ends the process at once."""
    Note.number = number
    for own in SIGNALS:
        signal.signal(own, signal.SIG_DFL)
    raise Interrupted(number)


@contextmanager
def handled() -> Iterator[None]:
    """Within the block the first of these signals raises Interrupted, at once or in `check`.

    Signals that are ignored, as those of a job under nohup, stay so. Behind an interrupted block
    signals keep their defaults, for then the process is about to end.
    """
    if current_thread() is not main_thread():
        yield
        return
    Note.number = None
    hook, before = sys.unraisablehook, {own: signal.getsignal(own) for own in SIGNALS}
    sys.unraisablehook = lambda args: None if args.exc_type is Interrupted else hook(args)
    for own, old in before.items():
        if old in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(own, handler)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if Note.number is None:
            for own, old in before.items():
                signal.signal(own, old)
