"""An embedder in a second copy, in a pickle and in another process is the same embedder."""

import copy
import importlib
import json
import multiprocessing
import pickle
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxbert import Embedder, Encoder, copying
from jaxbert.checkpoint import hub
from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import CheckpointError, InputError, InputTypeError, ModelNotFoundError
from jaxbert.inference.planning import ByText
from jaxbert.model.attention import Blockwise, dense
from jaxbert.model.head import Dense, Normalize, Pooling
from jaxbert.text.tokenizer import Tokenizer
from tests.models import CONFIGS, arrays, encoder, randomised, word_tokenizer, write_folder

TEXTS = ["a b c", "", "de f", "q " * 30]
KINDS = [name for name in CONFIGS if not name.startswith("qk")]


def settings(own):
    """What a user may have set."""
    names = ("prompts", "default_prompt_name", "max_seq_length", "truncate_dim")
    found = {name: getattr(own, name) for name in (*names, "similarity_fn_name")}
    return found | {"pooling": own.stack.pooling, "planner": own.planner}


def changed(own):
    """The embedder with every setting away from its default."""
    own.prompts = {"query": "a ", "other": "b c "}
    own.default_prompt_name = "other"
    own.max_seq_length = 11
    own.truncate_dim = 7
    own.similarity_fn_name = "manhattan"
    own.set_pooling_include_prompt(False)
    return own


def again(own):
    return pickle.loads(pickle.dumps(own))


def by_hand(name="jinabert-geglu", **more):
    random = np.random.default_rng(0)
    after = Dense(random.normal(size=(9, 15)).astype(np.float32), None, "Tanh"), Normalize()
    stack = Stack(Pooling(("max",)), after)
    return Embedder(encoder(name), Tokenizer(word_tokenizer(), "left"), stack, **more)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "model", sentence_bert_config={"max_seq_length": 17})


WAYS = {"pickle": again, "copy": copy.copy, "deepcopy": copy.deepcopy}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", ["folder", "by hand"])
def test_the_second_one_has_the_same_vectors_and_settings(folder, way, source):
    loaded = Embedder.from_pretrained(folder, deterministic=True)
    own = changed(loaded if source == "folder" else by_hand(planner=ByText()))
    other = WAYS[way](own)
    assert settings(other) == settings(own)
    np.testing.assert_array_equal(other.encode(TEXTS), own.encode(TEXTS))
    twice = WAYS[way](again(other))
    np.testing.assert_array_equal(twice.encode(TEXTS), own.encode(TEXTS))


@pytest.mark.parametrize("way", WAYS)
def test_settings_of_one_do_not_change_the_other(folder, way):
    own = Embedder.from_pretrained(folder)
    before = settings(own)
    changed(WAYS[way](own))
    assert settings(own) == before
    other = WAYS[way](own)
    before = settings(other)
    changed(own)
    assert settings(other) == before


def test_a_copy_shares_arrays_and_programs_and_a_deep_copy_has_modules_of_its_own(folder):
    own = Embedder.from_pretrained(folder)
    own.encode(TEXTS)
    for way in (copy.copy, copy.deepcopy):
        other = way(own)
        for a, b in zip(*map(jax.tree.leaves, (own.encoder, other.encoder)), strict=True):
            assert a is b
        before = own.compilations
        other.encode(TEXTS)
        assert own.compilations == before
        assert other.stats.texts == len(TEXTS)
    assert own.stats.texts == len(TEXTS)
    assert other.encoder.embeddings is not own.encoder.embeddings
    assert other.tokenizer.backend is not own.tokenizer.backend
    holder = {"first": own, "second": own}
    deep = copy.deepcopy(holder)
    assert deep["first"] is deep["second"] is not own


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_encoder_has_the_same_states(name, way):
    own = encoder(name)
    other = WAYS[way](own)
    assert jax.tree.structure(other) == jax.tree.structure(own)
    ids, mask, _ = arrays(1)
    np.testing.assert_array_equal(other(ids, mask), own(ids, mask))


def test_a_deep_copy_of_an_encoder_may_be_trained_by_itself():
    own = encoder("bert-gelu")
    before = np.asarray(own.embeddings.word[...])
    other = copy.deepcopy(own)
    other.embeddings.word.set_value(jnp.zeros((31, 15)))
    np.testing.assert_array_equal(own.embeddings.word[...], before)


# --- where the weights are -----------------------------------------------------------------------


def size(own):
    return sum(weight.nbytes for weight in own.encoder.weights().values())


def test_the_weights_of_a_folder_stay_there(minilm, monkeypatch, tmp_path):
    own = Embedder.from_pretrained(hub.DEFAULT_MODEL)
    text = pickle.dumps(own)
    assert len(text) < size(own) / 100
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(text).origin.root == minilm


def test_a_relative_folder_is_found_from_everywhere(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    own = Embedder.from_pretrained("model")
    text = pickle.dumps(own)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(pickle.loads(text).encode(TEXTS), own.encode(TEXTS))


def test_another_content_is_refused(folder):
    text = pickle.dumps(Embedder.from_pretrained(folder))
    write_folder(folder, tensors={k: 2 * v for k, v in tensors_of(folder).items()})
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the file"):
        pickle.loads(text)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not the file"):
        pickle.loads(text)


def test_another_config_is_refused(folder):
    text = pickle.dumps(Embedder.from_pretrained(folder))
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"layer_norm_eps": 1e-3}))
    with pytest.raises(CheckpointError, match=r"config\.json is not the file"):
        pickle.loads(text)


def tensors_of(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def test_a_folder_that_is_not_there_is_named(folder):
    text = pickle.dumps(Embedder.from_pretrained(folder))
    shutil.rmtree(folder)
    with pytest.raises(ModelNotFoundError, match="put it there, or pickle Embedder"):
        pickle.loads(text)


def test_tokenizer_and_stack_are_those_of_the_embedder_whatever_the_folder_says_now(folder):
    own = Embedder.from_pretrained(folder)
    vectors = own.encode(TEXTS)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 3}')
    (folder / "tokenizer.json").unlink()
    np.testing.assert_array_equal(again(own).encode(TEXTS), vectors)


@pytest.mark.parametrize("how", ["rewritten", "removed"])
def test_weights_travel_where_the_folder_has_others_by_now(folder, how):
    own = Embedder.from_pretrained(folder)
    vectors = own.encode(TEXTS)
    if how == "removed":
        shutil.rmtree(folder)
    else:
        write_folder(folder, tensors={k: 2 * v for k, v in tensors_of(folder).items()})
    np.testing.assert_array_equal(again(own).encode(TEXTS), vectors)


def test_trained_weights_travel(folder):
    own = Embedder.from_pretrained(folder)
    trained = randomised(own.encoder, seed=5)
    nnx.update(own.encoder, nnx.state(trained))
    other = again(own)
    for name, weight in trained.weights().items():
        np.testing.assert_array_equal(other.encoder.weights()[name], weight)
    assert other.origin is None


def test_a_part_that_was_exchanged_travels(folder):
    own = Embedder.from_pretrained(folder)
    own.encoder.attention = dense
    assert again(own).encoder.attention == dense


def test_a_model_saved_over_its_folder_is_found_there(folder):
    own = Embedder.from_pretrained(folder)
    own.encoder.embeddings.word.set_value(2 * own.encoder.embeddings.word[...])
    own.save_pretrained(folder)
    other = again(own)
    assert other.origin is not None
    for name, weight in own.encoder.weights().items():
        np.testing.assert_array_equal(other.encoder.weights()[name], weight)


def test_a_model_of_the_hub_is_resolved_by_name_and_commit(folder, monkeypatch, tmp_path):
    commit = "0123456789" * 4
    here, there = tmp_path / "a" / "snapshots" / commit, tmp_path / "b" / "snapshots" / commit
    shutil.copytree(folder, here)
    shutil.copytree(folder, there)
    asked = []

    def resolve(name, *, revision=None, **more):
        asked.append((name, revision))
        return here if here.exists() else there

    monkeypatch.setattr(hub, "resolve", resolve)
    own = Embedder.from_pretrained("some/model", revision="main", token="secret")
    text = pickle.dumps(own)
    assert b"secret" not in text
    shutil.rmtree(here)
    other = pickle.loads(text)
    np.testing.assert_array_equal(other.encode(TEXTS), own.encode(TEXTS))
    assert asked[-1] == ("some/model", commit)
    assert other.origin.revision == commit


def test_dtype_attention_and_ignored_keys_travel(folder):
    raw = json.loads((folder / "config.json").read_text()) | {"strange": 3}
    (folder / "config.json").write_text(json.dumps(raw))
    own = Embedder.from_pretrained(
        folder, dtype="bfloat16", attention=Blockwise(queries=5), ignore_config=("strange",)
    )
    other = again(own)
    assert other.encoder.attention == Blockwise(queries=5)
    assert {weight.dtype.name for weight in other.encoder.weights().values()} == {"bfloat16"}
    np.testing.assert_array_equal(other.encode(TEXTS), own.encode(TEXTS))


def test_devices_travel_as_their_places(folder, monkeypatch):
    two = jax.local_devices()
    own = Embedder.from_pretrained(folder, devices=two)
    text = pickle.dumps(own)
    assert list(pickle.loads(text).engine.given_devices) == two
    monkeypatch.setattr(copying.jax, "local_devices", lambda: two[:1])
    with pytest.raises(InputError, match="ran on device 1, and this process has 1"):
        pickle.loads(text)


def test_a_lambda_is_refused_by_name(folder):
    own = Embedder.from_pretrained(folder, attention=lambda *more: dense(*more))
    for one in (own, own.encoder):
        with pytest.raises(InputTypeError, match=r"attention is <function .*lambda"):
            pickle.dumps(one)
        assert copy.copy(one) is not one
        assert copy.deepcopy(one) is not one


class Mine(Embedder):
    """A subclass with a constructor and a field of its own."""

    def __init__(self, title):
        self.title = title
        super().__init__(encoder("jinabert-geglu"), Tokenizer(word_tokenizer(), "right"))


@pytest.mark.parametrize("way", WAYS)
def test_subclasses_keep_their_fields(way):
    other = WAYS[way](Mine(["title"]))
    assert type(other) is Mine
    assert other.title == ["title"]
    np.testing.assert_array_equal(other.encode(TEXTS), Mine(None).encode(TEXTS))


def test_a_tokenizer_by_itself(folder):
    own = Embedder.from_pretrained(folder).tokenizer
    for other in (again(own), copy.deepcopy(own)):
        assert [list(ids) for ids in other(TEXTS, 7)] == [list(ids) for ids in own(TEXTS, 7)]
        other.backend.add_tokens(["zzz"])
    assert own.backend.get_vocab_size() == 31


def test_what_was_pickled_can_be_saved(folder, tmp_path):
    for own in (Embedder.from_pretrained(folder), by_hand()):
        again(own).save_pretrained(tmp_path / "new")
        vectors = Embedder.from_pretrained(tmp_path / "new").encode(TEXTS)
        np.testing.assert_array_equal(vectors, own.encode(TEXTS))


# --- other processes and libraries ---------------------------------------------------------------


def child(own, texts):
    return own.encode(texts)


def test_a_spawned_process(folder):
    own = changed(Embedder.from_pretrained(folder, deterministic=True))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        vectors = pool.apply(child, (own, TEXTS))
    np.testing.assert_array_equal(vectors, own.encode(TEXTS))


@pytest.mark.parametrize("name", ["cloudpickle", "dill", "joblib"])
def test_other_ways_to_pickle(folder, tmp_path, name):
    library = pytest.importorskip(name)
    for own in (Embedder.from_pretrained(folder), by_hand(), encoder("jinabert-reglu")):
        if name == "joblib":
            library.dump(own, tmp_path / "file")
            other = library.load(tmp_path / "file")
        else:
            other = pickle.loads(library.dumps(own))
        if isinstance(own, Encoder):
            own, other = (
                Embedder(one, Tokenizer(word_tokenizer(), "left")) for one in (own, other)
            )
        np.testing.assert_array_equal(other.encode(TEXTS), own.encode(TEXTS))


def test_scikit_learn_clones_it(folder):
    base = pytest.importorskip("sklearn.base")
    own = changed(Embedder.from_pretrained(folder))
    other = base.clone(own, safe=False)
    assert settings(other) == settings(own)
    importlib.import_module("joblib").hash(own)
