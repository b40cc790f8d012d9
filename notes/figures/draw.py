"""Draws notes/figures/alibi.png and notes/figures/layer.png from the package itself.

make figures
"""

from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from jaxbert.model.attention.dense import bias_table
from jaxbert.model.position import Alibi, alibi_slopes

HERE = Path(__file__).parent
Point = tuple[float, float]
INK, SOFT, GATE = "#22303c", "#dfe7ec", "#9cc2b8"


def alibi(heads: int = 8, length: int = 48) -> None:
    """The bias of three heads as pictures, and what it does to the weight of a distant key."""
    positions = jnp.arange(length, dtype=jnp.int32)[None]
    bias = np.asarray(bias_table(Alibi(heads).bias, positions))[0]
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), width_ratios=(1, 1, 1, 1.5))
    shown = (0, 3, 7)
    for axis, head in zip(axes, shown, strict=False):
        picture = axis.imshow(bias[head], cmap="magma", vmin=-24, vmax=0)
        axis.set_title(
            f"head {head + 1}: slope 1/{round(1 / alibi_slopes(heads)[head])}", fontsize=9
        )
        axis.set_xlabel("key s", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("query t", fontsize=8)
    figure.colorbar(picture, ax=list(axes[:3]), shrink=0.85, pad=0.02).ax.tick_params(labelsize=7)
    distance = np.arange(1, 512)
    for head, slope in enumerate(alibi_slopes(heads)):
        colour = plt.get_cmap("viridis")(head / heads)
        axes[3].plot(distance, np.exp(-slope * distance), color=colour, lw=1.4)
    axes[3].set_xscale("log")
    axes[3].set_xlabel("distance |t - s|", fontsize=8)
    axes[3].set_title("factor on a key's weight, heads 1 ... 8", fontsize=9)
    axes[3].tick_params(labelsize=7)
    figure.savefig(HERE / "alibi.png", dpi=130, bbox_inches="tight")


def box(axis: Axes, x: float, y: float, text: str, colour: str = SOFT, width: float = 2.2) -> None:
    """A labelled box centred on (x, y)."""
    patch = FancyBboxPatch(
        (x - width / 2, y - 0.28), width, 0.56, boxstyle="round,pad=0.05", fc=colour, ec=INK, lw=0.9
    )
    axis.add_patch(patch)
    axis.text(x, y, text, ha="center", va="center", fontsize=8, color=INK)


def arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0
) -> None:
    """An arrow, bent for a residual path."""
    style = {"arrowstyle": "->", "color": INK, "lw": 1.0, "connectionstyle": f"arc3,rad={bend}"}
    axis.annotate("", xy=end, xytext=start, arrowprops=style)


def layer(axis: Axes) -> None:
    """One post-norm layer, bottom to top."""
    rows = ["x [b t d]", "attention", "+, norm", "feed-forward", "+, norm", "x' [b t d]"]
    colours = ["white", "#f2d9c9", SOFT, "#d5e5e0", SOFT, "white"]
    for i, (text, colour) in enumerate(zip(rows, colours, strict=True)):
        box(axis, 0, i, text, colour)
        if i:
            arrow(axis, (0, i - 0.66), (0, i - 0.34))
    arrow(axis, (1.2, 0.05), (1.2, 1.95), bend=0.5)
    arrow(axis, (1.2, 2.05), (1.2, 3.95), bend=0.5)
    axis.text(0, 5.75, "a layer", ha="center", fontsize=10, color=INK)


def glu(axis: Axes) -> None:
    """The gated feed-forward, bottom to top."""
    box(axis, 0, 0, "x [b t d]", "white")
    box(axis, 0, 1, "W1 [d g f]   (no bias)", width=4.2)
    box(axis, -1.4, 2.2, "gate [b t f]", "#d5e5e0")
    box(axis, 1.4, 2.2, "value [b t f]")
    box(axis, -1.4, 3.2, "gelu", GATE)
    box(axis, 0, 4.2, "gate x value", width=2.6)
    box(axis, 0, 5.2, "W2 [f d] + b2", width=4.2)
    steps = [((0, 0.34), (0, 0.66)), ((-1.4, 1.34), (-1.4, 1.86)), ((1.4, 1.34), (1.4, 1.86))]
    steps += [((-1.4, 2.54), (-1.4, 2.86)), ((-1.4, 3.54), (-0.7, 3.86))]
    for start, end in [*steps, ((1.4, 2.54), (0.7, 3.86)), ((0, 4.54), (0, 4.86))]:
        arrow(axis, start, end)
    axis.text(0, 5.75, "JinaBERT's feed-forward: a gated linear unit", ha="center", fontsize=10)


def layers() -> None:
    """Both pictures side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 5.2))
    layer(axes[0])
    glu(axes[1])
    for axis in axes:
        axis.set_xlim(-3, 3)
        axis.set_ylim(-0.6, 6.1)
        axis.axis("off")
    figure.savefig(HERE / "layer.png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    alibi()
    layers()
