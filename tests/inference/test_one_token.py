"""Heads that read one token: its state is that of the whole pass, and other heads read them all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Embedder, Encoder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.inference import forward
from jaxbert.inference.batches import Padded
from jaxbert.inference.inputs import prepare
from jaxbert.inference.one_token import computes_one_token, forward_one, reads_one_token
from jaxbert.inference.planning import ByLength
from jaxbert.inference.unrolled import Unrolled
from jaxbert.model.attention import blockwise, dense
from jaxbert.model.attention.dense import dense_attention
from jaxbert.model.head import Classifier, Pooling, PoolingHead
from jaxbert.model.position import Bias, Position
from tests.models import CONFIGS, encoder, make, write_folder
from tests.tolerances import COMPANY, ENCODER, VISIBLE, close, norms, off

SCHEMES = ["no-position", "bert-gelu", "jinabert-geglu", "qk-norm", "qk-post-norm"]
LENGTHS = np.array([[11], [7], [1]])


@pytest.mark.parametrize("index", [0, 5])
@pytest.mark.parametrize("name", SCHEMES)
def test_the_state_of_one_token_is_a_column_of_all_states(name, index):
    model = encoder(name)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (3, 11))
    mask = np.arange(11)[None, :] < LENGTHS
    inputs = prepare(model.config, model.position.limit, ids, mask, None, None, None)
    runner = Unrolled(model)
    assert computes_one_token(runner)
    got = jax.jit(forward_one)(runner, inputs, jnp.asarray(index, jnp.int32))
    assert got.shape == (3, 1, model.config.hidden_size)
    expected = model.forward(inputs)[:, index : index + 1]
    inside = mask[:, index]
    close(got[inside], expected[inside], ENCODER)


def test_rotations_and_packed_segments_are_of_that_token():
    from jaxbert.model.position_schemes import Rope, Sum, T5Bias

    scheme = Sum(Rope(7.0), T5Bias(4, rngs=nnx.Rngs(3), std=1.0))
    config = CONFIGS["no-position"].__class__.bert(
        vocab_size=31, hidden_size=24, num_layers=2, num_heads=4, intermediate_size=13
    )
    model = make(config, position=scheme)
    ids = np.random.default_rng(1).integers(0, 31, (2, 13))
    segments = np.repeat([[1] * 5 + [2] * 6 + [0] * 2], 2, 0)
    positions = np.repeat([[*range(5), *range(6), 0, 0]], 2, 0)
    inputs = prepare(config, None, ids, None, None, segments, positions)
    got = jax.jit(forward_one)(Unrolled(model), inputs, jnp.asarray(5, jnp.int32))
    close(got, model.forward(inputs)[:, 5:6], ENCODER)


class Capped(Bias):
    """A score that is a function of the product, and of one position."""

    def score(self, scores, pos_q, pos_k):
        return jnp.tanh(scores / 2.0) * pos_q[:, None].astype(jnp.float32)


class SoftCap(Position):
    bias = Capped()


def test_a_score_of_ones_own_counts():
    model = make(CONFIGS["no-position"], position=SoftCap())
    ids = np.random.default_rng(2).integers(0, 31, (3, 11))
    inputs = prepare(model.config, None, ids, None, None, None, None)
    got = jax.jit(forward_one)(Unrolled(model), inputs, jnp.asarray(7, jnp.int32))
    close(got, model.forward(inputs)[:, 7:8], ENCODER)


def doubled(q, k, v, bias, positions, segments):
    return 2.0 * dense_attention(q, k, v, bias, positions, segments)


class Mixing(nnx.Module):
    """A feed-forward that mixes tokens, which no state of one token alone can give."""

    def __call__(self, x):
        return jnp.roll(x, 1, axis=1)


def test_only_layers_of_nothing_but_the_package_are_cut_short():
    config = CONFIGS["jinabert-geglu"]
    own = Encoder(config, rngs=nnx.Rngs(0), attention=doubled)
    mixing = Encoder(config, rngs=nnx.Rngs(0), feed_forward=lambda rngs: Mixing())
    for attention, expected in ((dense, True), (blockwise, True)):
        plain = Unrolled(Encoder(config, rngs=nnx.Rngs(0), attention=attention))
        assert computes_one_token(plain) is expected
    assert not computes_one_token(Unrolled(own))
    assert not computes_one_token(Unrolled(mixing))
    assert not computes_one_token(own)


class ReadsAll(Classifier):
    """A classifier of one's own, which may read any state."""


def test_only_heads_that_read_one_token_are_given_one():
    rngs, sizes = nnx.Rngs(0), CONFIGS["bert-gelu"].sizes
    assert reads_one_token(Classifier(sizes, 2, rngs=rngs, std=0.1))
    assert not reads_one_token(ReadsAll(sizes, 2, rngs=rngs, std=0.1))
    assert reads_one_token(PoolingHead(Pooling(("cls",))))
    assert not reads_one_token(PoolingHead(Pooling(("cls", "mean"))))
    assert not reads_one_token(PoolingHead(Pooling(("lasttoken",))))


TEXTS = ["a b c", "d e f a b c d e", "f", ""]


@pytest.mark.parametrize("prompt", ["a f ", "a b c d e f a b c d e f a b c d e f a b c d e f"])
def test_behind_a_prompt_the_token_read_is_the_first_one_after_it(tmp_path, prompt, monkeypatch):
    folder = write_folder(tmp_path, "jinabert-geglu", sentence_bert_config={"max_seq_length": 23})
    given = Embedder.from_pretrained(folder)
    stack = Stack(pooling=Pooling(("cls",), include_prompt=False), max_length=23)

    def vectors():
        embedder = Embedder(given.encoder, given.tokenizer, stack, ByLength(packing=None))
        return embedder.encode(TEXTS, prompt=prompt), embedder.encode(TEXTS)

    behind, alone = vectors()
    monkeypatch.setattr(forward, "reads_one_token", lambda head: False)
    expected = vectors()
    close(behind, expected[0], COMPANY, norms)
    close(alone, expected[1], COMPANY, norms)
    assert off(behind, alone) > VISIBLE


@pytest.mark.parametrize("skipped", [4, 7, 11, 13])
def test_a_text_that_is_skipped_whole_has_zeros(skipped):
    model = encoder("bert-gelu")
    tokens = [np.arange(length) for length in (11, 7, 4)]
    arrays = Padded(np.arange(3), 3, 11).fill(tokens)
    head, skip = PoolingHead(Pooling(("cls",))), jnp.asarray(skipped, jnp.int32)
    got = forward.vectors(Unrolled(model), head, arrays, skip)
    expected = forward.vectors(model, head, arrays, skip)
    close(got, expected, ENCODER)
    np.testing.assert_array_equal((got != 0.0).any(axis=1), [skipped < len(ids) for ids in tokens])
