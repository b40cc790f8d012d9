"""What was measured, as a table to be read, as JSON, and as a picture."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxbert.bench.measuring import LeftOut, Timed
from jaxbert.bench.subjects import Subject
from jaxbert.corpus.files import atomic_write
from jaxbert.errors import WriteError

# Less than this ratio between the fastest and the first one is not told from noise.
NOISE = 1.05


class Bench(NamedTuple):
    """All that one run has found; the first of `timed` is what others are compared with."""

    title: str
    subject: Subject
    items: int
    alone: int  # characters of the item that is computed alone
    timed: Sequence[Timed]
    left_out: Sequence[LeftOut]

    @property
    def fastest(self) -> Timed:
        """The one with the most tokens a second."""
        return max(self.timed, key=lambda own: own.speed)


def shown(bench: Bench) -> str:
    """The table as lines of text, columns equal in width, and what follows from it."""
    item = bench.subject.item
    head = ["engine", "dtype", "tokens/s", "ratio", f"one {item}, ms", "load, s", "first, s"]
    head += ["difference"]
    rows = [head, *(cells(own, bench.timed[0]) for own in bench.timed)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        [
            about(bench),
            "",
            *("  ".join(map(padded, row, widths, range(len(row)))).rstrip() for row in rows),
            *(f"left out: {' '.join(own.candidate)}: {own.reason}" for own in bench.left_out),
            "",
            conclusion(bench),
        ]
    )


def padded(cell: str, width: int, column: int) -> str:
    """Words to the left, numbers to the right."""
    return cell.ljust(width) if column < 2 else cell.rjust(width)


def about(bench: Bench) -> str:
    """What was run, and how often."""
    first = bench.timed[0]
    return (
        f"{bench.title}\n{bench.items} {bench.subject.item}s of {first.tokens:,} tokens, "
        f"{len(first.lists)} rounds in turns, medians; one {bench.subject.item} of {bench.alone} "
        "characters"
    )


def cells(own: Timed, first: Timed) -> list[str]:
    """One line of the table."""
    return [
        *own.candidate,
        f"{own.speed:,.0f}",
        f"{own.speed / first.speed:.2f}",
        f"{1000 * own.single:.1f}",
        f"{own.loading:.1f}",
        f"{own.first:.1f}",
        f"{own.difference:.0e}",
    ]


def conclusion(bench: Bench) -> str:
    """Which one to take; the default unless another is faster beyond noise."""
    first, fastest = bench.timed[0], bench.fastest
    times = fastest.speed / first.speed
    if times < NOISE:
        return f"nothing here is faster than the default: {bench.subject.call(*first.candidate)}"
    return f"{times:.2f} times the default: {bench.subject.call(*fastest.candidate)}"


def contents(bench: Bench) -> dict[str, Any]:
    """The same as JSON has it; all times are in seconds."""
    return {
        "title": bench.title,
        "class": bench.subject.face,
        "items": bench.items,
        "timed": [
            own.candidate._asdict() | {k: v for k, v in own._asdict().items() if k != "candidate"}
            for own in bench.timed
        ],
        "left_out": [own.candidate._asdict() | {"reason": own.reason} for own in bench.left_out],
    }


def write(bench: Bench, file: Path) -> None:
    """The numbers as a JSON file. Raises WriteError where it cannot be written."""
    try:
        with atomic_write(file) as partial:
            partial.write_text(json.dumps(contents(bench), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise unwritable(file, error) from error


def draw(bench: Bench, file: Path) -> None:
    """Write the picture as PNG: tokens a second with all rounds as points, and one item alone.

    Raises ImportError without matplotlib, WriteError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.4 + 0.42 * len(bench.timed)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [" ".join(own.candidate) for own in bench.timed]
    left.barh(names, [own.speed for own in bench.timed], color="#4c78a8", height=0.6)
    right.barh(names, [1000 * own.single for own in bench.timed], color="#9ecae9", height=0.6)
    for name, own in zip(names, bench.timed, strict=True):
        each = [own.tokens / seconds for seconds in own.lists]
        left.plot(each, [name] * len(each), "k.", ms=3)
        singles = [1000 * seconds for seconds in own.singles]
        right.plot(singles, [name] * len(singles), "k.", ms=3)
    left.set_xlabel("tokens a second (longer is better)", fontsize=8)
    right.set_xlabel(f"one {bench.subject.item} alone, ms (shorter is better)", fontsize=8)
    for axis in (left, right):
        axis.tick_params(labelsize=8)
        axis.set_xlim(left=0)
    left.invert_yaxis()
    figure.suptitle(bench.title, fontsize=9)
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise unwritable(file, error) from error


def unwritable(file: Path, error: OSError) -> WriteError:
    """The error of a file that cannot be written."""
    return WriteError(f"{file} cannot be written ({error.strerror}); name another")
