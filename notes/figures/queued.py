"""Draws notes/figures/queued.png from notes/bench/queued.json.

python notes/figures/queued.py [FIGURES.json [DRAWING.png]]
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
SHARES = (50, 90, 99, 99.9)  # marked, per cent


def curve(axes: pyplot.Axes, times: list[float], name: str, colour: str) -> None:
    """The sorted times against how rare longer ones are: 1 of 2, of 10, of 100."""
    rare = [len(times) / (len(times) - i) for i in range(len(times))]
    axes.step(rare, sorted(times), where="post", color=colour, lw=1.5, label=name)


def main(figures: str = f"{HERE}/../bench/queued.json", drawing: str = "") -> None:
    """MiniLM's sentences at half load, and those of a JinaBERT with and without documents."""
    known = json.loads(Path(figures).read_text())
    short, long = known["latency"], known["document"]
    shown, (left, right) = pyplot.subplots(
        1, 2, figsize=(9, 3.6), sharey=True, layout="constrained"
    )
    curve(left, short["half"], f"{short['capacity'] / 2:.0f} a second", "#2a7f62")
    curve(left, short["alone"], "one after the other", "#8fc1a9")
    left.set_title("all-MiniLM-L6-v2, single sentences", fontsize=9)
    curve(right, long["mixed"], "a document of 8192 tokens among them", "#8a5a44")
    curve(right, long["half"], f"sentences alone, {long['capacity'] / 2:.0f} a second", "#2a7f62")
    right.axhline(long["document"], color="grey", linestyle=":", lw=1)
    right.annotate("the document alone", (1, long["document"]), xytext=(2, -9), fontsize=7,
                   textcoords="offset points")  # fmt: skip
    right.set_title("JinaBERT, 4 layers, random weights, half load", fontsize=9)
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([100 / (100 - share) for share in SHARES], [f"{s} %" for s in SHARES])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("share of sentences answered", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=7, loc="lower right")
    left.set_ylabel("ms from request to answer", fontsize=8)
    shown.savefig(drawing or HERE / "queued.png", dpi=130)


if __name__ == "__main__":
    main(*sys.argv[1:])
