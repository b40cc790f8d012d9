"""Accuracy over length as a picture: levels on the left, ratios to the trained length right."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxbert.errors import WriteError
from jaxbert.lab.table import Line, Spread, Table


def draw(table: Table, file: Path, names: Mapping[str, str] | None = None) -> None:
    """Write the picture as PNG: a line for each scheme, a band from its worst seed to its best.

    names are other titles of schemes. Raises ImportError without matplotlib, WriteError where the
    file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    curves(left, table, lambda line: line.levels, 100.0, names or {})
    left.axhline(100 * table.commonest, color="#999999", lw=0.8, ls=":")
    left.set_ylabel("masked symbols found, %", fontsize=8)
    left.set_ylim(bottom=0)
    curves(right, table, lambda line: line.ratios, 1.0, names or {})
    right.set_ylabel(f"accuracy / accuracy at {table.lengths[0]}", fontsize=8)
    right.set_ylim(bottom=0)
    left.legend(fontsize=7, frameon=False, loc="lower left")
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise WriteError(f"{file} cannot be written ({error.strerror}); name another") from error


def curves(
    axis: Any,
    table: Table,
    of: Callable[[Line], Mapping[int, Spread]],
    scale: float,
    names: Mapping[str, str],
) -> None:
    """A line and a band for each scheme on one axis."""
    lengths = table.lengths
    for line in table.lines():
        spreads = [of(line)[length] for length in lengths]
        title = names.get(line.scheme, line.scheme)
        (drawn,) = axis.plot(
            lengths, [scale * own.mean for own in spreads], "o-", ms=3, lw=1.4, label=title
        )
        low, high = ([scale * own[i] for own in spreads] for i in (1, 2))
        axis.fill_between(lengths, low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    axis.set_xscale("log", base=2)
    axis.set_xticks(lengths, [f"{own}\n{own // lengths[0]}x" for own in lengths], fontsize=7)
    axis.minorticks_off()
    axis.tick_params(axis="y", labelsize=7)
    axis.set_xlabel("symbols in a row", fontsize=8)
    axis.grid(alpha=0.25)
