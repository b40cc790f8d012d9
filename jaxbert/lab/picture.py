"""One picture of a position scheme: what it does over the distance, for some heads."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbert.errors import WriteError
from jaxbert.lab.check import Subject
from jaxbert.lab.properties import Probe, row, whole

# Positions on either side, and the most heads that are drawn.
REACH, MOST = 64, 6


def draw(subject: Subject, file: Path) -> None:
    """Write the picture as PNG: a panel for each place where the scheme acts.

    Raises ImportError without matplotlib, WriteError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    places = Probe.of(subject.scheme, subject.sizes(17)).places() or ["scores"]
    figure = Figure(figsize=(4.2 * len(places), 3.2), layout="constrained")
    for axis, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        PANELS[place](axis, subject)
    figure.suptitle(subject.title, fontsize=10)
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise WriteError(f"{file} cannot be written ({error.strerror}); name another") from error


def scores(axis: Any, subject: Subject) -> None:
    """The bias of some heads for a query in the middle, over the distance of the key."""
    tokens = subject.sizes(2 * REACH + 1).tokens
    bias, middle = subject.scheme.bias, tokens // 2
    if bias is not None:
        table = np.asarray(whole(bias, row(range(tokens))))
        lines(axis, table[:, middle], middle, subject.heads)
    axis.set_title("added to the scores", fontsize=9)


def rotation(axis: Any, subject: Subject) -> None:
    """The product of a query and a key of equal features, as a share of that at one place."""
    tokens = subject.sizes(2 * REACH + 1).tokens
    middle, width = tokens // 2, subject.width // subject.heads
    same = jnp.ones((1, subject.heads, tokens, width), jnp.float32)
    positions = row(range(tokens))
    q = subject.scheme.rotate_query(same, positions)[0, :, middle]
    k = subject.scheme.rotate_key(same, positions)[0]
    lines(axis, np.asarray(jnp.einsum("nh,nsh->ns", q, k) / width), middle, subject.heads)
    axis.set_title("q k after the rotation, of equal features", fontsize=9)


def states(axis: Any, subject: Subject) -> None:
    """What is added to the states, position by feature."""
    tokens = subject.sizes(2 * REACH + 1).tokens
    zero = jnp.zeros((1, tokens, subject.width), jnp.float32)
    added = np.asarray(subject.scheme.embed(zero, row(range(tokens))))[0]
    axis.imshow(added.T, aspect="auto", cmap="RdBu_r", interpolation="nearest")
    axis.set_xlabel("position", fontsize=8)
    axis.set_ylabel("feature", fontsize=8)
    axis.set_title("added to the states", fontsize=9)


def lines(axis: Any, values: np.ndarray, middle: int, heads: int) -> None:
    """A line for each of some heads, over the distance from the middle."""
    distance = np.arange(values.shape[1]) - middle
    chosen = np.unique(np.linspace(0, heads - 1, min(heads, MOST)).round().astype(int))
    # A mask is drawn at the edge of what is no mask.
    shown = np.where(values < -1e6, np.nan, values)
    for head in chosen:
        axis.plot(distance, shown[head], lw=1.2, label=f"head {head + 1}")
    axis.axvline(0, color="#999999", lw=0.6)
    axis.set_xlabel("key - query", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6, frameon=False)


PANELS = {"states": states, "queries and keys": rotation, "scores": scores}
