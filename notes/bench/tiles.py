"""The share of tiles that are computed, by length and by the size of queries and keys.

python notes/bench/tiles.py
Eight heads of 64 features with ALiBi, one text, normal queries and keys; the encoder with its
initial weights has a standard deviation of 0.45.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.model.attention import Blockwise
from jaxbert.model.attention.tiles import tile_ranges
from jaxbert.model.position import Alibi

N, H = 8, 64


def share(length: int, deviation: float, tiles: Blockwise) -> np.ndarray:
    """Of each head."""
    random = np.random.default_rng(0)
    q, k = deviation * random.normal(size=(2, N, length, H)).astype(np.float32)
    places, ones = jnp.arange(length, dtype=jnp.int32), jnp.ones((length,), jnp.int32)

    def one(head):
        q, k, bias = head
        return tile_ranges(q, k, bias, places, ones, tiles.queries, tiles.keys, tiles.tolerance)

    found = jax.jit(lambda *heads: jax.lax.map(one, heads))(q, k, Alibi(N).bias)
    return np.asarray(found.total().mean(axis=1) / -(-length // tiles.keys))


if __name__ == "__main__":
    print("| tokens | deviation | tile | mean | heads |\n|---|---|---|---|---|")
    for length in (8192, 65536):
        for deviation in (0.45, 1.0, 2.0):
            for tiles in (Blockwise(), Blockwise(128, 128)):
                found = share(length, deviation, tiles)
                heads = " ".join(f"{x:.2f}" for x in found)
                size = f"{tiles.queries} x {tiles.keys}"
                print(f"| {length} | {deviation} | {size} | {found.mean():.2f} | {heads} |")
