"""A folder with parts of a user's own code is refused by libraries that have not got the code."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sentence_transformers = pytest.importorskip("sentence_transformers")

import jax.numpy as jnp
from flax import nnx

from jaxbert import Embedder, Encoder, Position
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.text.tokenizer import Tokenizer
from tests.models import CONFIGS, word_tokenizer

pytestmark = pytest.mark.torch


class Shift(Position):
    """Adds one number to all states: the fields and tensors are those of a BERT without it."""

    def __init__(self):
        self.number = nnx.Param(jnp.full(15, 0.5, jnp.float32))

    def embed(self, x, pos):
        return x + self.number[...][None, None]


@pytest.fixture
def folder(tmp_path):
    parts = {"position": Shift()}
    encoder = Encoder(CONFIGS["bert-gelu"], rngs=nnx.Rngs(0), **parts)
    stack = Stack(max_length=19)
    own = Embedder(encoder, Tokenizer(word_tokenizer(), "right"), stack)
    own.save_pretrained(tmp_path, parts=parts)
    assert Embedder.from_pretrained(tmp_path, parts=parts).encode(["a b"]).shape == (1, 15)
    return str(tmp_path)


@pytest.mark.parametrize("trust", [False, True])
def test_transformers_refuses_it(folder, trust):
    for kind in (transformers.AutoConfig, transformers.AutoModel):
        with pytest.raises(ValueError, match="model type `jaxbert`"):
            kind.from_pretrained(folder, trust_remote_code=trust)


def test_sentence_transformers_refuses_it(folder):
    with pytest.raises(ValueError, match="model type `jaxbert`"):
        sentence_transformers.SentenceTransformer(folder, device="cpu")
