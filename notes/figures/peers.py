"""Draws notes/figures/peers.png from notes/bench/peers.json.

python notes/figures/peers.py [FIGURES.json [DRAWING.png]]
"""

import json
import statistics
import sys
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
COLOURS = {
    "sentence-transformers": "#8a5a44",
    "ONNX Runtime": "#7d6608",
    "ONNX Runtime, as fastembed": "#b39b2e",
    "OpenVINO": "#c9a227",
    "OpenVINO bf16": "#c9a227",
    "jaxbert": "#2a7f62",
    "jaxbert, deterministic": "#8fc1a9",
    "jaxbert bf16": "#2a7f62",
}
TITLES = {
    "mixed256": "mixed texts, cut at 256",
    "mixed512": "mixed texts, cut at 512",
    "queries": "queries",
    "abstracts": "abstracts",
    "single": "one sentence",
}
DTYPES = {"f32": "float32", "bf16": "bfloat16"}


def roof(figures: dict, row: dict, dtype: str) -> float:
    """Tokens a second if all products of the row ran at the best speed of one product."""
    best = max(one["gflops"] for one in figures["roof"] if one["dtype"] == dtype)
    return best * row["tokens"] / row["gflop"]


def draw_row(axis: plt.Axes, row: dict, dtype: str, single: bool, most: int) -> None:
    """A bar for each engine of a dtype, tokens a second or milliseconds; room for `most` bars."""
    engines = {name: one for name, one in row["engines"].items() if one["dtype"] == dtype}
    for place, (name, one) in enumerate(engines.items()):
        if single:
            value, label = 1e3 * statistics.median(one["seconds"]), "{:.1f}"
        else:
            value, label = row["tokens"] / min(one["seconds"]), "{:,.0f}"
        bar = axis.barh(place, value, color=COLOURS[name], height=0.7)
        axis.bar_label(bar, labels=[label.format(value)], fontsize=6, padding=2)
    axis.set_yticks(range(len(engines)), list(engines), fontsize=7)
    axis.set_ylim(most - 0.4, -0.6)
    axis.margins(x=0.16)
    axis.tick_params(axis="x", labelsize=7)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)


def draw(figures: dict, file: Path) -> None:
    """A line of panels for each row of the benchmark, a column for each dtype."""
    rows = figures["rows"]
    present = {one["dtype"] for row in rows.values() for one in row["engines"].values()}
    dtypes = [dtype for dtype in DTYPES if dtype in present]
    counts = [
        max(sum(one["dtype"] == dtype for one in row["engines"].values()) for dtype in dtypes)
        for row in rows.values()
    ]
    figure, axes = plt.subplots(
        len(rows),
        len(dtypes),
        figsize=(4.6 * len(dtypes), 0.75 * len(rows) + 0.22 * sum(counts)),
        squeeze=False,
        sharex="row",
        height_ratios=[count + 1 for count in counts],
    )
    for line, count, (name, row) in zip(axes, counts, rows.items(), strict=True):
        single = name == "single"
        unit = "ms, median" if single else "tokens/s"
        for axis, dtype in zip(line, dtypes, strict=True):
            draw_row(axis, row, dtype, single, count)
            axis.set_title(f"{TITLES[name]}, {DTYPES[dtype]}: {unit}", fontsize=8)
            if not single:
                axis.axvline(roof(figures, row, dtype), color="#444444", ls="--", lw=1)
    caption = "dashed: the roof, all products at the best speed of one"
    figure.text(0.5, 0.005, caption, ha="center", fontsize=7)
    figure.tight_layout(rect=(0, 0.015, 1, 1))
    figure.savefig(file, dpi=130)


if __name__ == "__main__":
    names = dict(enumerate(sys.argv[1:]))
    source = Path(names.get(0, HERE.parent / "bench" / "peers.json"))
    draw(json.loads(source.read_text()), Path(names.get(1, HERE / "peers.png")))
