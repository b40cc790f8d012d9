"""One line that says how far a run is: rows, tokens a second, padding, the time that is left."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TextIO

from jaxbert.inference.stats import Stats

# Seconds between two reports: where one line is written over, and where lines are kept in a log.
OFTEN, SELDOM = 0.5, 30.0


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass
class Progress:
    """Reports to a stream: a line that is written over on a terminal, else lines now and then."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    start: float = field(init=False)
    last: float = field(init=False)
    rows: int = 0
    begun: float | None = None  # the part of the input that was done when the run began

    def __post_init__(self) -> None:
        """Begin now."""
        self.start = self.last = self.clock()
        self.terminal = self.stream.isatty()

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """So many rows are done, and this share of the input; says so if it is time to."""
        self.rows += rows
        if self.begun is None:
            self.begun = share or 0.0
        now = self.clock()
        if now - self.last < (OFTEN if self.terminal else SELDOM):
            return
        self.last = now
        line = self.line(stats, share, now - self.start)
        self.write(f"\r\x1b[2K{line}" if self.terminal else f"{line}\n")

    def write(self, text: str) -> None:
        """Show it; if nobody can see it, the work goes on."""
        with suppress(OSError, ValueError):
            self.stream.write(text)
            self.stream.flush()

    def line(self, stats: Stats, share: float | None, seconds: float) -> str:
        """What there is to say."""
        words = [
            f"{self.rows} rows",
            f"{stats.tokens / seconds if seconds > 0 else 0:.0f} tokens/s",
            f"padding efficiency {stats.padding_efficiency:.3f}",
        ]
        gained = (share or 0.0) - (self.begun or 0.0)
        if share is not None and gained > 0:
            left = seconds * (1.0 - share) / gained
            words.append(f"{100 * share:.1f} %, {duration(left)} left")
        return ", ".join(words)

    def close(self) -> None:
        """Leave the terminal on a fresh line."""
        if self.terminal:
            self.write("\r\x1b[2K")


class Silence:
    """Reports nothing."""

    def __call__(self, rows: int, stats: Stats, share: float | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
