"""The one line about a run: what it says, how often, and that it keeps quiet when told to."""

import io

import pytest

from jaxbert.corpus.progress import OFTEN, SELDOM, Progress, Silence, duration
from jaxbert.inference.stats import Stats


class Clock:
    """Time that passes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(stream, steps):
    """A Progress that is told of rows, tokens, slots and a share at certain seconds."""
    clock = Clock()
    progress = Progress(stream, clock)
    for seconds, rows, tokens, slots, share in steps:
        clock.now = 100.0 + seconds
        progress(rows, Stats(tokens=tokens, slots=slots), share)
    progress.close()
    return stream.getvalue()


def test_a_terminal_has_one_line_that_is_written_over():
    steps = [(0.1, 7, 70, 100, 0.1), (1.0, 11, 180, 200, 0.25), (1.2, 3, 200, 220, 0.3)]
    text = told(Terminal(), steps)
    assert text.count("\n") == 0
    lines = [line for line in text.split("\r\x1b[2K") if line]
    assert lines == ["18 rows, 180 tokens/s, padding efficiency 0.900, 25.0 %, 0:05 left"]


def test_a_log_has_lines_now_and_then():
    steps = [(t, 5, 10 * t, 20 * t, None) for t in (1, 29, 31, 40, 62)]
    lines = told(io.StringIO(), steps).splitlines()
    assert lines == [
        "15 rows, 10 tokens/s, padding efficiency 0.500",
        "25 rows, 10 tokens/s, padding efficiency 0.500",
    ]
    assert OFTEN < 1 < SELDOM < 31


def test_what_was_done_before_the_run_is_no_speed():
    # Half was done before; a tenth of the input took eleven seconds, so four of these are left.
    steps = [(1, 100, 0, 0, 0.5), (11, 20, 110, 110, 0.6)]
    assert told(Terminal(), steps).count("60.0 %, 0:44 left") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.4, "0:59"), (61, "1:01"), (3599.6, "1:00:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_silence(capsys):
    quiet = Silence()
    quiet(3, Stats(), 0.5)
    quiet.close()
    assert capsys.readouterr() == ("", "")
