"""A vector that cannot be right is not returned, and the text that it is of is named."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Embedder
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import ComputationError, InputError, TextError
from jaxbert.model.attention import dense
from jaxbert.model.head import Normalize
from tests.models import CONFIGS, encoder, published, randomised, raw_config, write_folder

TEXTS = ["a b c", "d e", "q"]
UNIT = (Normalize(),)


def made(embedder, scale, after=UNIT):
    """An embedder whose last states are scaled, by the norm of the last layer."""
    changed = jax.tree.map(lambda leaf: leaf, embedder.encoder)
    norm = changed.layers.output_norm
    changed.layers.output_norm = jax.tree.map(lambda leaf: leaf.at[-1].multiply(scale), norm)
    return Embedder(changed, embedder.tokenizer, Stack(after=after))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Embedder.from_pretrained(write_folder(tmp_path_factory.mktemp("plain"), "bert-gelu"))


@pytest.mark.parametrize(
    "encode",
    [
        lambda embedder: embedder.encode(TEXTS),
        lambda embedder: embedder.encode(TEXTS, output_value=None),
        lambda embedder: embedder.encode_chunks(TEXTS, lambda text: [(0, len(text))], overlap=3),
    ],
)
def test_a_zero_vector_behind_normalize_is_refused(plain, encode):
    vectors = encode(made(plain, 1.0))
    assert len(vectors) == 3
    with pytest.raises(ComputationError, match="of text 0 has the length 0 behind a Normalize"):
        encode(made(plain, 0.0))


def test_states_whose_squares_overflow_are_refused_behind_normalize(plain):
    with pytest.raises(ComputationError, match="behind a Normalize module"):
        made(plain, 1e25).encode(TEXTS)


def test_without_normalize_a_vector_may_have_any_length(plain):
    assert not made(plain, 0.0, ()).encode(TEXTS).any()
    vectors = made(plain, 1e25, ()).encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_the_text_with_an_unknown_id_or_too_many_tokens_is_named(tmp_path):
    raw = raw_config(CONFIGS["bert-gelu"]) | {"vocab_size": 9}
    tensors = published(encoder("bert-gelu"))
    tensors["embeddings.word_embeddings.weight"] = tensors["embeddings.word_embeddings.weight"][:9]
    folder = write_folder(tmp_path, config=raw, tensors=tensors)
    embedder = Embedder.from_pretrained(folder, ignore_config=("vocab",))
    for texts in (["a", "b", "z"], ["a"] * 9000 + ["z"]):
        with pytest.raises(TextError, match="has the token id 30, but the model has 9") as caught:
            embedder.encode(texts)
        assert isinstance(caught.value, InputError)
        assert caught.value.text == len(texts) - 1
    with pytest.raises(TextError, match="text 1 has 42 tokens, but this model learned") as caught:
        embedder.encode(["a", "b " * 40], max_length=99)
    assert caught.value.text == 1


def double(parameter):
    parameter.set_value(2 * parameter[...])


CHANGES = {
    "one weight": lambda encoder: double(encoder.embeddings.word),
    "all weights": lambda encoder: nnx.update(encoder, nnx.state(randomised(encoder, seed=5))),
    "attention": lambda encoder: setattr(encoder, "attention", dense),
    "a new parameter": lambda encoder: setattr(
        encoder.embeddings, "word", nnx.Param(2 * encoder.embeddings.word[...])
    ),
    "an activation": lambda encoder: setattr(encoder.layers.feed_forward, "activation", jnp.tanh),
    "an eps": lambda encoder: setattr(encoder.embeddings.norm, "eps", 0.1),
    "a module": lambda encoder: setattr(
        encoder.layers, "output_norm", jax.tree.map(lambda x: 2 * x, encoder.layers.output_norm)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("of", [lambda embedder: embedder, copy.copy, copy.deepcopy])
def test_an_encoder_changed_in_place_does_not_run_with_its_old_weights(plain, change, of):
    embedder = copy.deepcopy(plain)
    embedder.encode(TEXTS)
    change(embedder.encoder)
    with pytest.raises(InputError, match="the encoder was changed after this model was made"):
        of(embedder).encode(TEXTS)
    new = Embedder(embedder.encoder, embedder.tokenizer, embedder.stack)
    assert new.encode(TEXTS).shape == (len(TEXTS), 15)


def same_encoder_in_other_arrays(encoder):
    nnx.update(encoder, jax.tree.map(jnp.copy, nnx.state(encoder)))


@pytest.mark.parametrize(
    "use",
    [
        lambda encoder: nnx.grad(lambda own: own([[1, 2, 3]]).sum())(encoder),
        lambda encoder: nnx.jit(lambda own: own([[1, 2, 3]]))(encoder),
        same_encoder_in_other_arrays,
    ],
    ids=["grad", "jit", "copies"],
)
def test_an_encoder_that_was_used_and_not_changed_still_runs(plain, use):
    own = copy.deepcopy(plain)
    vectors = own.encode(TEXTS)
    use(own.encoder)
    np.testing.assert_array_equal(own.encode(TEXTS), vectors)
    double(own.encoder.embeddings.word)
    with pytest.raises(InputError, match="the encoder was changed"):
        own.encode(TEXTS)
