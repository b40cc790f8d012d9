"""One picture of a position scheme: what it does over the distance, for some heads."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbert.errors import WriteError
from jaxbert.lab.check import Subject
from jaxbert.lab.properties import Probe, row

# Positions on either side, and the most heads that are drawn.
REACH, MOST = 64, 6
# Below it a bias is a mask.
MASKED = -1e6


def draw(subject: Subject, file: Path) -> None:
    """Write the picture as PNG: a panel for each place where the scheme acts.

    Raises ImportError without matplotlib, WriteError where the file cannot be written.
    """
    from matplotlib.figure import Figure

    places = Probe.of(subject.scheme, subject.sizes(2 * REACH + 1)).places() or ["scores"]
    figure = Figure(figsize=(4.2 * len(places), 3.2), layout="constrained")
    for axis, place in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        PANELS[place](axis, subject)
    figure.suptitle(subject.title, fontsize=10)
    try:
        figure.savefig(file, dpi=120, format="png")
    except OSError as error:
        raise WriteError(f"{file} cannot be written ({error.strerror}); name another") from error


def scores(axis: Any, subject: Subject) -> None:
    """The bias of some heads for a query in the middle, over the distance of the key.

    That of a function of the scores is drawn over the score, at one position.
    """
    heads, tokens = subject.bias, subject.sizes(2 * REACH + 1).tokens
    if heads is not None and heads.bias.additive:
        lines(axis, heads.whole(range(tokens))[:, tokens // 2], np.arange(tokens) - tokens // 2)
        axis.set_title("added to the scores", fontsize=9)
    elif heads is not None:
        before = np.linspace(-REACH, REACH, 2 * REACH + 1, dtype=np.float32)
        place = row([0])[0]
        after = heads.scores(before[:, None], jnp.repeat(place, len(before)), place)
        lines(axis, after[..., 0], before, "score")
        axis.set_title("what becomes of a score", fontsize=9)


def rotation(axis: Any, subject: Subject) -> None:
    """The product of a query and a key of equal features, as a share of that at one place."""
    tokens = subject.sizes(2 * REACH + 1).tokens
    middle, width = tokens // 2, subject.width // subject.heads
    same = jnp.ones((1, subject.heads, tokens, width), jnp.float32)
    positions = row(range(tokens))
    q = subject.scheme.rotate_query(same, positions)[0, :, middle]
    k = subject.scheme.rotate_key(same, positions)[0]
    products = np.asarray(jnp.einsum("nh,nsh->ns", q, k) / width)
    lines(axis, products, np.arange(tokens) - middle)
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


def lines(axis: Any, values: np.ndarray, over: np.ndarray, name: str = "key - query") -> None:
    """A line for each of some heads, values [n, x] over [x]; one line where all are equal."""
    same = (values == values[0]).all()
    chosen = np.linspace(0, len(values) - 1, min(len(values), MOST)).round().astype(int)
    # What is masked is left out, and keeps its place on the axis.
    shown = np.where(values < MASKED, np.nan, values)
    for head in chosen[:1] if same else chosen:
        axis.plot(over, shown[head], lw=1.2, label="all heads" if same else f"head {head + 1}")
    axis.axvline(0, color="#999999", lw=0.6)
    axis.set_xlim(over[0], over[-1])
    axis.set_xlabel(name, fontsize=8)
    axis.tick_params(labelsize=7)
    axis.legend(fontsize=6, frameon=False)


PANELS = {"states": states, "queries and keys": rotation, "scores": scores}
