"""Long texts through the whole encoder: pieces of the feed-forward, and lengths beyond training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Encoder, EncoderConfig
from jaxbert.model.attention import blockwise, dense
from jaxbert.model.chunked import CHUNK, chunked
from jaxbert.model.transformer import Inputs
from tests.models import CONFIGS, encoder, make
from tests.tolerances import ENCODER, FUNCTION, close, largest


@pytest.mark.parametrize("t", [1, 6, 7, 8, 20, 21])
def test_pieces_make_the_whole(t):
    x = np.random.default_rng(t).normal(size=(2, t, 5)).astype(np.float32)
    got = chunked(lambda x: jnp.sin(x) * 3, jnp.asarray(x), 7)
    close(got, np.sin(x) * 3, FUNCTION)


def test_the_gradient_passes_through_pieces():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 17, 5)).astype(np.float32))
    whole, pieces = (
        jax.grad(lambda x, size=size: chunked(jnp.sin, x, size).sum())(x) for size in (99, 7)
    )
    close(pieces, whole, FUNCTION)


def long(t, rows=1):
    return np.random.default_rng(t).integers(0, 31, (rows, t))


def test_a_text_longer_than_a_piece_is_what_dense_makes_of_it():
    """Padding behind, so that pieces and tiles end in it; the default against the definition."""
    t = CHUNK + 37
    ids, mask = long(t, 2), np.ones((2, t), int)
    mask[1, 701:] = 0
    model = encoder("jinabert-geglu")
    definition = make(CONFIGS["jinabert-geglu"], attention=dense)
    a, b = (np.asarray(m(ids, mask)) for m in (model, definition))
    close(a[mask == 1], b[mask == 1], ENCODER)


def test_packed_long_texts_are_what_they_are_alone():
    lengths = (599, 701, 5)
    ids = [long(n)[0] for n in lengths]
    segments = np.repeat([1, 2, 3], lengths)[None]
    model = encoder("jinabert-geglu")
    packed = np.asarray(model(np.concatenate(ids)[None], segment_ids=segments))[0]
    start = 0
    for text in ids:
        alone = np.asarray(model(text[None]))[0]
        close(packed[start : start + len(text)], alone, ENCODER)
        start += len(text)


def test_alibi_goes_on_beyond_max_position_embeddings():
    config = CONFIGS["jinabert-geglu"]
    t = config.max_positions * 40
    assert np.isfinite(np.asarray(encoder("jinabert-geglu")(long(t)))).all()


def test_the_memory_of_the_encoder_is_linear_in_the_length():
    config = EncoderConfig.jinabert(
        vocab_size=31, hidden_size=40, num_layers=2, num_heads=5, intermediate_size=96
    )

    def temporary(t):
        shapes = jax.eval_shape(lambda: Encoder(config, rngs=nnx.Rngs(0), attention=blockwise))
        tokens = jax.ShapeDtypeStruct((1, t), jnp.int32)
        lowered = jax.jit(Encoder.forward).lower(shapes, Inputs(tokens, tokens, tokens, tokens))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    short, far = temporary(16384), temporary(65536)
    assert far < 4.4 * short
    # q, k, v, the context and the states before and after: no array [t, f] among them.
    assert far < 7 * 4 * 65536 * 40


def test_gradients_of_a_long_text_are_those_of_dense():
    t = CHUNK + 11
    ids = long(t)

    def gradients(attention):
        model = make(CONFIGS["jinabert-geglu"], attention=attention)
        return jax.grad(lambda m: jnp.square(m(ids)[:, ::97]).mean())(model)

    pairs = zip(*map(jax.tree.leaves, (gradients(blockwise), gradients(dense))), strict=True)
    for a, b in pairs:
        close(a, b, ENCODER, max(1.0, largest(b)))
