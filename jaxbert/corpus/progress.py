"""One line that says how far a run is: rows, tokens a second, padding, the time that is left."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from jaxbert.inference.stats import Stats

# Seconds between two reports: where one line is written over, and where lines are kept in a log.
OFTEN, SELDOM = 0.5, 30.0


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Reports to a stream: a line that is written over on a terminal, else lines now and then."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """The stream is stderr if none is given; the time is counted from here."""
        self.stream, self.clock = stream or sys.stderr, clock
        self.terminal = self.stream.isatty()
        self.start = self.last = clock()
        self.rows = 0
        self.begun: float | None = None  # the share of the input that was done before this run

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """So many rows are done, and this share of the input; says so if it is time to."""
        self.rows += rows
        if self.begun is None:
            self.begun = share or 0.0
        now = self.clock()
        if now - self.last >= (OFTEN if self.terminal else SELDOM):
            self.last = now
            line = self.line(stats, share, now - self.start)
            self.write(f"\r\x1b[2K{line}" if self.terminal else f"{line}\n")

    def line(self, stats: Stats, share: float | None, seconds: float) -> str:
        """What is said after so many seconds."""
        line = (
            f"{self.rows} rows, {stats.tokens / seconds if seconds > 0 else 0:.0f} tokens/s, "
            f"padding efficiency {stats.padding_efficiency:.3f}"
        )
        gained = (share or 0.0) - (self.begun or 0.0)
        if share is None or gained <= 0:
            return line
        return f"{line}, {100 * share:.1f} %, {duration(seconds * (1.0 - share) / gained)} left"

    def write(self, text: str) -> None:
        """Show it; if the stream is closed or broken, the work goes on."""
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()

    def close(self) -> None:
        """Leave the terminal on an empty line."""
        if self.terminal:
            self.write("\r\x1b[2K")


class Silence:
    """Takes the same calls and reports nothing."""

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """Do nothing with what is told."""

    def close(self) -> None:
        """There is no line to remove."""
