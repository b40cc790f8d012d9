"""What the command `jaxbert lab` does."""

import argparse
from pathlib import Path

from jaxbert.arguments import integer, path
from jaxbert.errors import InputError
from jaxbert.lab.check import Subject, check
from jaxbert.lab.loading import load, maker
from jaxbert.lab.picture import draw
from jaxbert.process import interrupts, streams

# Positions of a scheme whose constructor asks how many.
POSITIONS = 512


def run_check(options: argparse.Namespace) -> int:
    """Print what a scheme does, a row for each property, and draw it; 1 where a row is a fault."""
    heads, width = integer(options.heads, "--heads", 1), integer(options.width, "--width", 2)
    if width % (2 * heads):
        raise InputError(
            f"--width {width} does not give {heads} heads of an even width; choose a multiple of "
            f"{2 * heads}"
        )
    title, found = load(options.scheme)
    make = maker(title, found, heads=heads, width=width, length=POSITIONS)
    subject = Subject.of(title, make, heads, width)
    wrong = False
    for row in check(subject):
        interrupts.check()
        streams.answer(f"{row.name:<12}{row.answer}")
        wrong |= row.wrong
    file = path(options.picture or f"{title.split(':')[-1]}.png", "a file")
    streams.answer(f"{'picture':<12}{drawn(subject, file)}")
    return int(wrong)


def drawn(subject: Subject, file: Path) -> str:
    """Where the picture is, or why there is none."""
    try:
        draw(subject, file)
    except ImportError:
        return "none: matplotlib is not installed; pip install 'jaxbert[figures]' brings it"
    return str(file)
