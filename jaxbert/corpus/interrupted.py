"""What an interrupted run says, and the exit status of one without its output."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jaxbert.corpus.run_parts import RunParts
from jaxbert.process import interrupts

# Exit status of a run that ends without its output, and of `status` for one.
UNFINISHED = 3


@contextmanager
def told_how_to_go_on(output: str) -> Iterator[None]:
    """Within the block, a signal ends the command with a sentence about what is kept."""
    try:
        yield
    except BaseException as error:
        number = interrupts.received()
        if number is None and not isinstance(error, KeyboardInterrupt):
            raise
        words = interrupts.NOTHING
        if output != "-" and RunParts(output).records():
            words = (
                "interrupted; what is finished is kept, and the same command goes on from there:"
                f"\n  {shlex.join(['jaxbert', *sys.argv[1:]])}"
            )
        raise interrupts.Interrupted(number or signal.SIGINT, words) from None
