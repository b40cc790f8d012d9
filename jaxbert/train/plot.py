"""The loss of a run as a picture, where matplotlib is installed."""

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# How many numbers a smooth line is the mean of, as a share of all.
SMOOTH = 1 / 50


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """The mean of the last `width` values at each place, or of those that there are."""
    total = np.cumsum(np.concatenate([[0.0], values]))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - width, 0)
    return (total[stop] - total[start]) / (stop - start)


def draw(records: Iterable[Mapping[str, Any]], folder: Path) -> list[Path]:
    """loss.svg and loss.png in a folder; none where matplotlib is missing (extra `figures`)."""
    try:
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(7, 4))
    except ImportError:
        return []
    seen = [(own["step"], own["loss"]) for own in records]
    if not seen:
        return []
    steps, losses = map(np.array, zip(*seen, strict=True))
    axes = figure.subplots()
    axes.plot(steps, losses, linewidth=0.5, alpha=0.4, label="each step")
    width = max(1, round(len(steps) * SMOOTH))
    axes.plot(steps, running_mean(losses, width), label=f"mean of {width}")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    files = [folder / "loss.svg", folder / "loss.png"]
    for file in files:
        figure.savefig(file, bbox_inches="tight")
    return files
