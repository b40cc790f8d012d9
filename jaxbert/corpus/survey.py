"""A look at the folder of a run that changes nothing in it."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from jaxbert.corpus.locks import is_held
from jaxbert.corpus.run_parts import RunParts
from jaxbert.process import interrupts

# Exit status of a run that ends without its output, and of `status` for one.
UNFINISHED = 3


def at_work(parts: RunParts) -> list[str]:
    """The workers that hold their locks, as "worker 0 of 2"."""
    locks = sorted(parts.folder.path.glob("worker-*.lock"))
    return [file.stem.replace("-", " ") for file in locks if is_held(file)]


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
