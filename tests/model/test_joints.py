"""What a variant of attention may hook into: each joint against its formula."""

import jax.numpy as jnp
import numpy as np

from jaxbert import EncoderConfig
from jaxbert.model.position import Position
from jaxbert.model.position_schemes import Rope, Sum
from tests.models import make
from tests.tolerances import FUNCTION, VISIBLE, close, off

H = 6


class XPos(Rope):
    """arXiv:2212.10554: queries grow by the factors by which keys shrink."""

    def grow(self, qk, exponent):
        half = qk.shape[-1] // 2
        zeta = (jnp.arange(half, dtype=jnp.float32) / half + 0.4) / 1.4
        factor = zeta[None, None, None, :] ** exponent[:, None, :, None]
        return qk * jnp.concatenate([factor, factor], axis=-1)

    def rotate_query(self, q, pos):
        return self.grow(self.rotate(q, pos), pos.astype(jnp.float32) / 16)

    def rotate_key(self, k, pos):
        return self.grow(self.rotate(k, pos), -pos.astype(jnp.float32) / 16)


def test_a_scheme_may_rotate_queries_otherwise_than_keys():
    """The score of xPos is that of RoPE, each pair of features times zeta^((t - s) / 16)."""
    t, half = 7, H // 2
    q, k = np.random.default_rng(0).normal(size=(2, t, H)).astype(np.float32)
    pos, scheme = jnp.arange(t, dtype=jnp.int32)[None], XPos()
    rotated = scheme.rotate_query(jnp.asarray(q)[None, None], pos)[0, 0]
    got = rotated @ scheme.rotate_key(jnp.asarray(k)[None, None], pos)[0, 0].T
    offset = np.arange(t)[:, None, None] - np.arange(t)[None, :, None]
    angle = offset * 1e4 ** (-np.arange(half) / half)
    zeta = (np.arange(half) / half + 0.4) / 1.4
    q, k = (x[:, :half] + 1j * x[:, half:] for x in (q, k))
    pairs = q[:, None] * np.conj(k)[None, :] * np.exp(1j * angle)
    close(got, (pairs.real * zeta ** (offset / 16)).sum(-1), FUNCTION)


def test_an_encoder_and_a_sum_tell_queries_from_keys():
    config = EncoderConfig.bert(
        vocab_size=31, hidden_size=18, num_layers=2, num_heads=3, intermediate_size=13
    )
    ids = np.random.default_rng(1).integers(0, 31, (2, 11))

    def states(scheme):
        model = make(config)
        model.position = scheme
        return np.asarray(model(ids))

    alone = states(XPos())
    assert off(alone, states(Rope())) > VISIBLE
    np.testing.assert_array_equal(alone, states(Sum(Position(), XPos())))
    np.testing.assert_array_equal(alone, states(Sum(XPos(), Position())))
