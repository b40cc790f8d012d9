"""The jaxbert command. Imports of jax wait until a command runs, so --help is instant."""

import argparse
import os
import signal
import warnings
from collections.abc import Sequence
from typing import Any

from jaxbert.cli.commands import run_search, run_status
from jaxbert.cli.options import parser
from jaxbert.errors import JaxbertError, printable
from jaxbert.process import interrupts, streams


def warn(message: Warning | str, *_: Any) -> None:
    """A warning as one sentence on stderr."""
    streams.say(f"jaxbert: warning: {printable(' '.join(str(message).split()))}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an expected error is one sentence on stderr and exit status 1.

    SIGINT and SIGTERM end it with 130 and 143, a reader of stdout that goes away with 141.
    """
    with interrupts.handled():
        try:
            streams.occupy()
            options = parser().parse_args(arguments)
            if answers(options):
                streams.need_stdout()
            with warnings.catch_warnings():
                warnings.showwarning = warn  # type: ignore[assignment]
                status = int(options.action(options))
            with streams.written():
                pass
        except KeyboardInterrupt as error:
            return interrupted(error)
        except BrokenPipeError:
            streams.drop()
            return 128 + signal.SIGPIPE
        except Exception as error:
            number = interrupts.received()
            if number is not None:  # other libraries turn what a signal raises into their own
                return interrupted(interrupts.Interrupted(number))
            return failed(error)
        return status


def answers(options: argparse.Namespace) -> bool:
    """Whether a command says on stdout what it found."""
    return getattr(options, "output", "-") == "-" or options.action in (
        run_status,
        run_search,
    )


def interrupted(error: KeyboardInterrupt) -> int:
    """Say that a signal has ended the command; its exit status."""
    streams.say(f"jaxbert: {getattr(error, 'words', interrupts.NOTHING)}")
    return int(getattr(error, "status", 128 + signal.SIGINT))


def failed(error: Exception) -> int:
    """Say what went wrong; its exit status."""
    with_traceback = os.environ.get("JAXBERT_TRACEBACK")
    if isinstance(error, JaxbertError):
        streams.say(f"jaxbert: {one_line(error)}")
    elif isinstance(error, OSError):
        streams.say(f"jaxbert: {printable(one_line(error))}")
    elif with_traceback:
        raise error
    else:
        streams.say(
            f"jaxbert: {type(error).__name__}: {printable(one_line(error), 300)} "
            "(JAXBERT_TRACEBACK=1 shows where)"
        )
    return 1


def one_line(error: BaseException) -> str:
    """The error as one sentence."""
    return " ".join(str(error).split()) or type(error).__name__
