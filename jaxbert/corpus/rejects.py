"""How many rows a run may leave out before it says that it went wrong."""

import math
from pathlib import Path

from jaxbert.corpus.files import sibling
from jaxbert.errors import InputError, shown
from jaxbert.process import streams

# The exit status of a run that left out more rows than it may.
REJECTED = 4


def share(text: str) -> float:
    """A share of all rows in [0, 1]: "0.05" or "5%"."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise InputError(f"--max-rejected is {shown(text)}; give a share of the rows, 5% or 0.05")
    return number


def judged(rows: int, rejected: int, most: float, reasons: str) -> int:
    """The exit status of a run that left out `rejected` rows beside those that it wrote.

    REJECTED, and a sentence on stderr, if that is more than the share `most` of all; reasons says
    where the reasons are.
    """
    total = rows + rejected
    if rejected <= most * total:
        return 0
    streams.say(
        f"jaxbert: {rejected} of {total} rows were rejected, more than --max-rejected {most:.3g} "
        f"allows; the others are written, and {reasons}"
    )
    return REJECTED


def reasons_beside(output: Path) -> str:
    """Where the rejected rows of an output are listed, as a sentence."""
    return f"{sibling(output, '.rejects.jsonl')} has the reasons"


def listed(output: Path) -> int:
    """How many rejected rows lie beside an output."""
    try:
        with sibling(output, ".rejects.jsonl").open("rb") as stream:
            return sum(1 for _ in stream)
    except FileNotFoundError:
        return 0
