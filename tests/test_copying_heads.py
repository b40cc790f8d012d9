"""A cross-encoder and a masked language model in a copy, in a pickle and in another process."""

import copy
import multiprocessing
import pickle
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from jaxbert import CrossEncoder, MaskedLM
from jaxbert.checkpoint.sentence_transformers.cross_encoder import CrossEncoderSettings
from jaxbert.errors import CheckpointError, InputTypeError, ModelNotFoundError
from jaxbert.inference.planning import ByText
from jaxbert.model.attention import Blockwise, dense
from jaxbert.text.tokenizer import Tokenizer
from tests.models import GOLDEN, masked, randomised, scored, write_folder

PAIRS = [("a b", "c"), ("", "d e f"), ("q " * 30, "a " * 30)]
KINDS = {CrossEncoder: "bert-cross-encoder-3labels", MaskedLM: "jinabert-mlm"}


def again(own):
    return pickle.loads(pickle.dumps(own))


WAYS = {"pickle": again, "copy": copy.copy, "deepcopy": copy.deepcopy}


def answer(own):
    """What a model gives, as an array."""
    if isinstance(own, CrossEncoder):
        return own.predict(PAIRS)
    rows = own.fill(["a [MASK] b", "[MASK]"], top_k=101)
    return np.array([[row["score"] for row in sorted(r, key=lambda x: x["token"])] for r in rows])


def settings(own):
    """What a user may have set, and what is remembered of the folder."""
    names = ("settings", "mask_token", "max_length", "left_aside")
    return {name: getattr(own, name, None) for name in names}


def by_hand(kind):
    """A model of the same parts that has no folder."""
    own = kind.from_pretrained(GOLDEN / KINDS[kind])
    parts = (own.encoder, own.head, own.tokenizer)
    return kind(*parts, own.settings) if kind is CrossEncoder else kind(*parts, max_length=23)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, tmp_path):
    tensors = masked() if kind is MaskedLM else scored()
    more = {"bert.pooler.dense.weight": np.ones((15, 15), np.float32)}
    own = tensors | (more if kind is MaskedLM else {})
    # The tokenizer of the golden folder knows [MASK] as a token.
    place = write_folder(tmp_path / "model", tensors=own)
    shutil.copytree(GOLDEN / KINDS[kind], tmp_path / "golden")
    return place


@pytest.fixture
def golden(folder):
    return folder.parent / "golden"


@pytest.mark.parametrize("way", WAYS)
def test_the_second_one_gives_the_same(kind, golden, way):
    for own in (kind.from_pretrained(golden), by_hand(kind)):
        other = WAYS[way](own)
        assert type(other) is kind
        assert settings(other) == settings(own)
        np.testing.assert_array_equal(answer(other), answer(own))
        twice = WAYS[way](again(other))
        np.testing.assert_array_equal(answer(twice), answer(own))


@pytest.mark.parametrize("way", WAYS)
def test_a_deep_copy_may_be_trained_by_itself(kind, golden, way):
    own = kind.from_pretrained(golden)
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(own._parts)]
    other = WAYS[way](own)
    for part in other._parts.values():
        if way != "copy":
            nnx.update(part, nnx.state(randomised(part, 5)))
    for old, leaf in zip(before, jax.tree.leaves(own._parts), strict=True):
        np.testing.assert_array_equal(leaf, old)
    answer(own)


def test_copies_share_arrays_programs_and_no_settings():
    own = CrossEncoder.from_pretrained(GOLDEN / KINDS[CrossEncoder])
    own.settings = replace(own.settings, prompts={"q": "a "})
    own.predict(PAIRS)
    before = own.compilations
    for way in (copy.copy, copy.deepcopy):
        other = way(own)
        for a, b in zip(*map(jax.tree.leaves, (own._parts, other._parts)), strict=True):
            assert a is b
        other.predict(PAIRS)
        assert own.compilations == before
        assert other.stats.texts == len(PAIRS)
        other.settings.prompts["more"] = "b "
        assert own.settings.prompts == {"q": "a "}
    assert other.head is not own.head
    assert other.tokenizer.backend is not own.tokenizer.backend


def test_the_weights_of_a_folder_stay_there(kind, folder):
    own = kind.from_pretrained(folder)
    (folder / "tokenizer.json").unlink()
    text = pickle.dumps(own)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(own._parts))
    assert len(text) < len(pickle.dumps(own.tokenizer)) + held / 2
    other = pickle.loads(text)
    assert other.origin.root == folder
    assert settings(other) == settings(own)
    for a, b in zip(*map(jax.tree.leaves, (own._parts, other._parts)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("part", ["encoder", "head"])
def test_trained_weights_travel(kind, golden, part):
    own = kind.from_pretrained(golden)
    module = own._parts[part]
    nnx.update(module, nnx.state(randomised(module, 5)))
    other = again(own)
    assert other.origin is None
    for a, b in zip(*map(jax.tree.leaves, (own._parts, other._parts)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_content_or_none_is_refused(kind, golden):
    text = pickle.dumps(kind.from_pretrained(golden))
    file = golden / "config.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=r"config\.json is not the file that the model had"):
        pickle.loads(text)
    shutil.rmtree(golden)
    with pytest.raises(ModelNotFoundError, match=rf"or pickle {kind.__name__}\(model\.encoder"):
        pickle.loads(text)


def test_dtype_attention_planner_and_devices_travel(kind, golden):
    more = {"deterministic": True, "devices": jax.local_devices()} if kind is CrossEncoder else {}
    own = kind.from_pretrained(golden, dtype="bfloat16", attention=Blockwise(queries=5), **more)
    other = again(own)
    assert other.encoder.attention == Blockwise(queries=5)
    assert {weight.dtype.name for weight in other.encoder.weights().values()} == {"bfloat16"}
    if kind is CrossEncoder:
        assert isinstance(other.engine.planner, ByText)
        assert list(other.engine.given_devices) == jax.local_devices()
    np.testing.assert_array_equal(answer(other), answer(own))


def test_a_lambda_is_refused_by_name(kind, golden):
    own = kind.from_pretrained(golden, attention=lambda *more: dense(*more))
    with pytest.raises(InputTypeError, match=r"attention is <function .*lambda"):
        pickle.dumps(own)
    assert copy.deepcopy(own) is not own


class Mine(CrossEncoder):
    """A subclass with a constructor and a field of its own."""

    def __init__(self, title):
        self.title = title
        own = CrossEncoder.from_pretrained(GOLDEN / KINDS[CrossEncoder])
        super().__init__(own.encoder, own.head, own.tokenizer, own.settings)


@pytest.mark.parametrize("way", WAYS)
def test_subclasses_keep_their_fields(way):
    other = WAYS[way](Mine(["title"]))
    assert type(other) is Mine
    assert other.title == ["title"]
    np.testing.assert_array_equal(other.predict(PAIRS), Mine(None).predict(PAIRS))


def test_what_was_pickled_can_be_saved(kind, golden, tmp_path):
    for own in (kind.from_pretrained(golden), by_hand(kind)):
        again(own).save_pretrained(tmp_path / "new")
        np.testing.assert_array_equal(answer(kind.from_pretrained(tmp_path / "new")), answer(own))


def test_a_spawned_process(kind, golden):
    own = kind.from_pretrained(golden)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(answer, (own,))
    np.testing.assert_array_equal(found, answer(own))


def test_settings_and_tokenizers_are_checked_when_a_model_is_made():
    own = CrossEncoder.from_pretrained(GOLDEN / KINDS[CrossEncoder])
    assert isinstance(own.settings, CrossEncoderSettings)
    assert isinstance(own.tokenizer, Tokenizer)
    with pytest.raises(InputTypeError, match="settings is a str; pass a CrossEncoderSettings"):
        CrossEncoder(own.encoder, own.head, own.tokenizer, "settings")
