"""The gallery of chapter 3: every variant runs, learns, and comes back from a folder."""

import functools
import importlib.util
import re
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxbert import Encoder
from jaxbert.errors import CheckpointError
from jaxbert.model.attention import Blockwise, attend, dense
from jaxbert.model.attention.tpu import Tpu
from jaxbert.model.position import Position
from tests.tolerances import ENCODER, VISIBLE, close, off

NOTES = Path(__file__).parents[1] / "notes"


def loaded():
    """notes/variants.py as a module."""
    place = importlib.util.spec_from_file_location("variants", NOTES / "variants.py")
    module = importlib.util.module_from_spec(place)
    sys.modules["variants"] = module
    place.loader.exec_module(module)
    return module


variants = loaded()
GALLERY, CONFIG = variants.GALLERY, variants.CONFIG
# So many tokens that each text has several tiles, and the last of them is not full.
T = 75
IDS = np.random.default_rng(0).integers(0, 31, (2, T))
MASK = (np.arange(T)[None, :] < np.array([[T], [51]])).astype(np.int64)
BLOCKWISE = Blockwise(queries=32, keys=16)
KERNEL = Tpu(queries=16, keys=32, interpret=True)
WEIGHT = np.random.default_rng(1).normal(size=(2, T, CONFIG.hidden_size)).astype(np.float32)


@pytest.fixture(autouse=True)
def ordinary_settings():
    """As for the code of the notes: readers do not set the strict ones of these tests."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def made(name, attention):
    """The variant's encoder with an attention that it runs on, or its own."""
    parts = {"attention": attention, **GALLERY[name].parts(attention)}
    return Encoder(CONFIG, rngs=nnx.Rngs(0), **parts)


def states_and_gradients(model):
    """The states where there are tokens, and the gradient of a function of them by path."""
    leaves, tree = jax.tree.flatten(model)
    chosen = [i for i, leaf in enumerate(leaves) if leaf.dtype == np.float32]

    def loss(values):
        new = list(leaves)
        for i, value in zip(chosen, values, strict=True):
            new[i] = value
        states = jax.tree.unflatten(tree, new)(IDS, MASK) * MASK[..., None]
        return (states * WEIGHT).sum(), states

    gradients, states = jax.jit(jax.grad(loss, has_aux=True))([leaves[i] for i in chosen])
    names = list(model.weights())
    return states, {names[i]: np.asarray(x) for i, x in zip(chosen, gradients, strict=True)}


@functools.cache
def expected(name):
    """What the dense definition gives."""
    return states_and_gradients(made(name, dense))


TILED = [name for name, variant in GALLERY.items() if not variant.dense_only]


@pytest.mark.parametrize("name", GALLERY)
def test_a_variant_changes_the_states_and_learns(name):
    states, gradients = expected(name)
    assert off(states, plain()) > VISIBLE
    for path, gradient in gradients.items():
        assert np.isfinite(gradient).all(), path
    trained = {".".join(map(str, path)) for path, _ in flat_params(made(name, dense))}
    still = {path for path in trained if not gradients[path].any()}
    assert still <= UNMOVED


@pytest.mark.parametrize("name", TILED)
def test_a_variant_and_its_gradients_are_the_same_in_tiles(name):
    states, gradients = expected(name)
    again, others = states_and_gradients(made(name, BLOCKWISE))
    close(again, states, ENCODER)
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    for path, gradient in gradients.items():
        close(others[path], gradient, ENCODER, np.float64(scale))


@pytest.mark.parametrize("name", TILED)
def test_a_variant_runs_in_a_kernel(name):
    states = made(name, KERNEL)(IDS, MASK)
    close(np.asarray(states) * MASK[..., None], expected(name)[0], ENCODER)


@pytest.mark.parametrize("name", GALLERY)
def test_a_variant_is_saved_and_loaded_bit_for_bit(name, tmp_path):
    """The same modules with the same fields and the same arrays make the same program."""
    model = made(name, attend)
    model.save_pretrained(tmp_path, parts=GALLERY[name].parts(attend))
    again = Encoder.from_pretrained(tmp_path, parts=GALLERY[name].parts(attend))
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for own, other in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        assert own.dtype == other.dtype
        assert np.asarray(own).tobytes() == np.asarray(other).tobytes()
    with pytest.raises(CheckpointError, match="needs code that is never taken from a folder"):
        Encoder.from_pretrained(tmp_path)


def flat_params(model):
    """The path and value of each nnx.Param."""
    return nnx.to_flat_state(nnx.state(model, nnx.Param))


# Without a gradient: softmax does not see a number that is added to all scores of a query.
UNMOVED = {"layers.attention.key.bias"}


@functools.cache
def plain():
    """The states of the same encoder without any variant."""
    model = Encoder(CONFIG, rngs=nnx.Rngs(0), position=Position(), attention=dense)
    return np.asarray(model(IDS, MASK)) * MASK[..., None]


def test_there_are_so_many_variants_of_so_few_lines():
    assert len(GALLERY) == 22
    assert max(variant.lines() for variant in GALLERY.values()) <= 15
    for variant in GALLERY.values():
        assert any(
            re.search(r"arXiv:\d{4}\.\d{5}|Miller|Press", one.__doc__) for one in variant.code
        )


def test_the_table_of_the_chapter_is_that_of_the_gallery():
    assert variants.table() in (NOTES / "03-positions.md").read_text(encoding="utf-8")
