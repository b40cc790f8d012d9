"""Draws notes/figures/tiles.png and, from notes/bench/attention.json, notes/figures/lengths.png.

make figures
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from jaxbert import Encoder, EncoderConfig
from jaxbert.model.attention import Blockwise
from jaxbert.model.attention.tiles import tile_ranges
from jaxbert.model.position import alibi_slopes
from jaxbert.model.transformer import Inputs

HERE = Path(__file__).parent
LENGTH = 8192
COLOURS = {
    "dense": "#8a5a44",
    "blockwise": "#2a7f62",
    "blockwise, nothing skipped": "#8fc1a9",
    "torch, bias": "#c9a227",
    "torch, bias and mask": "#7d6608",
}


def spans(length: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """First and stop [n, tiles] in the first layer of a small JinaBERT with random weights."""
    config = EncoderConfig.jinabert(
        vocab_size=30528, hidden_size=512, num_layers=1, num_heads=8, intermediate_size=2048
    )
    encoder = Encoder(config, rngs=nnx.Rngs(0))
    places, ones = jnp.arange(length, dtype=jnp.int32), jnp.ones((length,), jnp.int32)
    ids = jnp.asarray(np.random.default_rng(0).integers(0, config.vocab_size, (1, length)))
    inputs = Inputs(ids, ones[None], jnp.zeros_like(ids), places[None])
    x, metadata = encoder.forward_embeddings(inputs)
    q, k, _ = encoder.layer(0).attention.heads(x, metadata)
    tiles = Blockwise()

    def one(head):
        q, k, bias = head
        return tile_ranges(q, k, bias, places, ones, tiles.queries, tiles.keys, tiles.tolerance)

    found = jax.jit(lambda *heads: jax.lax.map(one, heads))(q[0], k[0], encoder.position.bias)
    return np.asarray(found.first), np.asarray(found.stop), tiles.queries, tiles.keys


def draw_tiles() -> None:
    """Eight squares, one per head: dark where a tile is computed."""
    first, stop, _, keys = spans(LENGTH)
    columns = np.arange(-(-LENGTH // keys))
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.9))
    for head, axis in enumerate(axes.flat):
        computed = (columns >= first[head][:, None]) & (columns < stop[head][:, None])
        axis.imshow(computed, cmap="Greens", vmin=0, vmax=1.3, aspect="auto", interpolation="none")
        slope = round(1 / alibi_slopes(8)[head])
        axis.set_title(f"slope 1/{slope}: {100 * computed.mean():.0f} %", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[1, 0].set_xlabel("keys", fontsize=8)
    axes[1, 0].set_ylabel("queries", fontsize=8)
    figure.tight_layout()
    figure.savefig(HERE / "tiles.png", dpi=130)


def draw_lengths() -> None:
    """Seconds and peak memory by length, both axes logarithmic."""
    figures = json.loads((HERE.parent / "bench" / "attention.json").read_text())
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4))
    for kind, colour in COLOURS.items():
        lengths = sorted((n for n in figures if kind in figures[n]), key=int)
        for axis, key in zip(axes, ("seconds", "peak"), strict=True):
            values = [figures[length][kind][key] for length in lengths]
            if key == "seconds":  # of one text; short ones ran several at a time
                values = [v / figures[n]["rows"] for v, n in zip(values, lengths, strict=True)]
            axis.plot([int(n) for n in lengths], values, "o-", ms=3, color=colour, label=kind)
    for axis, title in zip(axes, ("seconds a text", "peak memory, GiB"), strict=True):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("tokens", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "lengths.png", dpi=130)


if __name__ == "__main__":
    draw_tiles()
    draw_lengths()
