"""A researcher's own position scheme, as notes/03-positions.md teaches it, passed in."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxbert import Bias, Encoder, EncoderConfig, Position
from jaxbert.model.position import Alibi
from tests.tolerances import VISIBLE, off


class WindowBias(Bias):
    """Nothing within a window, minus infinity's stand-in outside; one width per head."""

    def __init__(self, widths):
        self.widths = jnp.asarray(widths)

    def __call__(self, pos_q, pos_k):
        distance = jnp.abs(pos_q[:, None] - pos_k[None, :])
        return jnp.where(distance <= self.widths, 0.0, -1e9)


class Window(Position):
    def __init__(self, widths):
        self.bias = WindowBias(widths)


CONFIG = EncoderConfig.jinabert(
    vocab_size=31, hidden_size=15, num_layers=1, num_heads=3, intermediate_size=13
)


def test_each_head_sees_its_own_window():
    model = Encoder(CONFIG, rngs=nnx.Rngs(0), position=Window([1, 2, 20]))
    ids = np.random.default_rng(0).integers(0, 31, (2, 11))
    (maps,) = model.attentions(ids)
    distance = np.abs(np.arange(11)[:, None] - np.arange(11)[None, :])
    for head, width in enumerate([1, 2, 20]):
        seen = np.asarray(maps)[:, head] > 0
        np.testing.assert_array_equal(seen, np.broadcast_to(distance <= width, seen.shape))


def test_a_wide_window_is_no_scheme_at_all_and_narrow_ones_are_not():
    ids = np.random.default_rng(1).integers(0, 31, (2, 11))

    def states(position):
        return np.asarray(Encoder(CONFIG, rngs=nnx.Rngs(0), position=position)(ids))

    np.testing.assert_array_equal(states(Window([99, 99, 99])), states(Position()))
    assert off(states(Window([1, 2, 3])), states(Position())) > VISIBLE
    assert off(states(Alibi(3)), states(Position())) > VISIBLE
