"""The results of schemes beside each other: as a table to be read, and as JSON."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxbert.corpus.files import atomic_write
from jaxbert.errors import InputError
from jaxbert.lab.extrapolate import Result


class Spread(NamedTuple):
    """A number of several seeds: the mean, the smallest and the largest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """That of some numbers; none of them may be NaN."""
        return cls(math.fsum(values) / len(values), min(values), max(values))


class Line(NamedTuple):
    """One scheme: the levels and the ratios to the trained length, by length, over all seeds."""

    scheme: str
    results: tuple[Result, ...]
    levels: dict[int, Spread]
    ratios: dict[int, Spread]


class Table(NamedTuple):
    """What was measured in one setting, and what a guess of the most common symbol would get."""

    setting: dict[str, Any]
    commonest: float
    results: tuple[Result, ...]

    @property
    def lengths(self) -> list[int]:
        """The lengths, the trained one first."""
        return list(self.setting["lengths"])

    def lines(self) -> Iterator[Line]:
        """The schemes, in the order in which they were asked for."""
        first = self.lengths[0]
        for scheme in dict.fromkeys(own.scheme for own in self.results):
            own = tuple(one for one in self.results if one.scheme == scheme)
            levels = {t: Spread.of([one.accuracy[t] for one in own]) for t in self.lengths}
            ratios = {t: Spread.of([ratio(one, t, first) for one in own]) for t in self.lengths}
            yield Line(scheme, own, levels, ratios)


def ratio(result: Result, length: int, first: int) -> float:
    """The accuracy at a length by that at the trained one; zero where that is zero."""
    return result.accuracy[length] / result.accuracy[first] if result.accuracy[first] else 0.0


# --- to be read ----------------------------------------------------------------------------------


def shown(table: Table) -> str:
    """The table as lines of text, equal in width: level in percent and ratio beside each other."""
    first, lengths = table.lengths[0], table.lengths
    head = ["accuracy %, ratio", "seeds", "steps", "seconds"]
    head += [f"{length} ({length // first}x)" for length in lengths]
    head += [f"ratio at {lengths[-1] // first}x by seed"]
    rows = [head, *(cells(line, lengths) for line in table.lines())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    masked = table.results[0].masked if table.results else 0
    return "\n".join(
        [
            *lines,
            f"of {masked:,} masked symbols, the same at every length; the most common symbol is "
            f"{table.commonest:.1%} of all",
        ]
    )


def cells(line: Line, lengths: Sequence[int]) -> list[str]:
    """One scheme as the cells of a row."""
    own, last = line.results, lengths[-1]
    seconds = Spread.of([one.seconds for one in own]).mean
    found = [line.scheme, str(len(own)), str(own[0].steps), f"{seconds:.0f}"]
    for length in lengths:
        level = line.levels[length]
        band = f" ±{50 * (level.high - level.low):.1f}" if len(own) > 1 else ""
        found.append(f"{100 * level.mean:.1f}{band} {line.ratios[length].mean:.2f}")
    each = [ratio(one, last, lengths[0]) for one in own]
    return [*found, " ".join(f"{value:.3f}" for value in each)]


# --- as JSON -------------------------------------------------------------------------------------


def as_json(result: Result) -> dict[str, Any]:
    """A result as JSON has it: the keys of an object are strings."""
    accuracy = {str(length): value for length, value in result.accuracy.items()}
    return result._asdict() | {"accuracy": accuracy}


def of_json(found: dict[str, Any]) -> Result:
    """The result that `as_json` has written."""
    accuracy = {int(length): value for length, value in found["accuracy"].items()}
    return Result(**{name: found[name] for name in Result._fields} | {"accuracy": accuracy})


def contents(table: Table) -> dict[str, Any]:
    """The table as JSON has it."""
    results = [as_json(own) for own in table.results]
    return {"setting": table.setting, "commonest": table.commonest, "results": results}


def table_of(found: dict[str, Any]) -> Table:
    """The table of what `contents` gives; KeyError, TypeError or ValueError for anything else."""
    results = tuple(of_json(own) for own in found["results"])
    return Table(found["setting"], float(found["commonest"]), results)


def write(table: Table, file: Path) -> None:
    """The table as JSON, from which it is read, and the plot drawn, again."""
    with atomic_write(file) as partial:
        partial.write_text(json.dumps(contents(table), indent=1) + "\n", encoding="utf-8")


def read(file: Path) -> Table:
    """The table that `write` has written. Raises InputError for anything else."""
    try:
        return table_of(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} is no table of jaxbert lab extrapolate; name one, such as "
            "runs/extrapolation.json"
        ) from error
