"""Small models to be trained, and batches of texts for them."""

import jax
import numpy as np
from flax import nnx

from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.head import MaskedLanguageHead, Normalize, Pooling, PoolingHead
from jaxbert.train.models import MaskedModel, TextModel
from tests.models import CONFIGS, make, randomised
from tests.tolerances import GRADIENT, close

CONFIG = CONFIGS["jinabert-geglu"]


def text_model(config=CONFIG, **parts):
    """An encoder, and a pooling head that normalises."""
    return TextModel(make(config, **parts), PoolingHead(Pooling(), [Normalize()]))


def masked_model(config=CONFIG, **parts):
    """An encoder, and a head tied to its word embeddings."""
    head = jax.eval_shape(
        lambda: MaskedLanguageHead(config, ACTIVATIONS["gelu"], rngs=nnx.Rngs(0), tied=True)
    )
    return MaskedModel(make(config, **parts), randomised(head, seed=1))


def texts(seed, rows, length=11, kind=""):
    """Ids and segments of ragged rows of at least three tokens."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, length + 1, rows)
    segments = (np.arange(length)[None] < lengths[:, None]).astype(np.int32)
    ids = random.integers(5, CONFIG.vocab_size, (rows, length)).astype(np.int32) * segments
    return {f"{kind}ids": ids, f"{kind}segments": segments}


def norm(gradients):
    """The length of all gradients as one vector, in float64."""
    squares = [np.square(np.asarray(x, np.float64)).sum() for x in jax.tree.leaves(gradients)]
    return float(np.sqrt(sum(squares)))


def close_gradients(got, expected):
    """Refuse gradients that differ by more than rounding, measured by the length of them all."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    scale = norm(expected)
    assert np.isfinite(scale)
    assert scale > 0
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        close(x, y, GRADIENT, scale=np.full(np.shape(y), scale))
