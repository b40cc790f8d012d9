"""Published vectors: what the package knows, what a model makes of it, and what verify says."""

import dataclasses
import itertools
import json
import math
from importlib import resources

import numpy as np
import pytest

from jaxbert import cli
from jaxbert.checkpoint import hub
from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.model import activations
from jaxbert.verify import published
from jaxbert.verify.opened import load_model
from jaxbert.verify.published_vectors import PublishedVector
from tests import models
from tests.models import GOLDEN, write_folder
from tests.tolerances import ENCODER

WIDTHS = {
    "jinaai/jina-embeddings-v2-small-en": 512,
    "jinaai/jina-embeddings-v2-base-en": 768,
    "jinaai/jina-embeddings-v2-base-de": 768,
    "jinaai/jina-embeddings-v2-base-es": 768,
    "jinaai/jina-embeddings-v2-base-zh": 768,
    "jinaai/jina-embeddings-v2-base-code": 768,
    "BAAI/bge-small-en-v1.5": 384,
    "sentence-transformers/all-MiniLM-L6-v2": 384,
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": 384,
    "BAAI/bge-base-en-v1.5": 768,
    "BAAI/bge-large-en-v1.5": 1024,
    "thenlper/gte-base": 768,
    "thenlper/gte-large": 1024,
    "mixedbread-ai/mxbai-embed-large-v1": 1024,
    "Snowflake/snowflake-arctic-embed-xs": 384,
    "Snowflake/snowflake-arctic-embed-s": 384,
    "Snowflake/snowflake-arctic-embed-m": 768,
    "Snowflake/snowflake-arctic-embed-l": 1024,
    "intfloat/multilingual-e5-large": 1024,
    "nomic-ai/nomic-embed-text-v1.5": 768,
    "sentence-transformers/all-mpnet-base-v2": 768,
    "answerdotai/ModernBERT-base": 768,
}
NAME = "someone/small"  # the stand-in, with vectors of its own
TEXT, OTHER = "a b c", "c d e f g"
FILE = resources.files("jaxbert.verify") / "published_vectors.json"
VECTORS = [own for own in published.everything() if isinstance(own, PublishedVector)]


def run(*arguments):
    """The command's exit status."""
    return cli.main([str(argument) for argument in arguments])


def entry(**fields):
    """A published vector of the stand-in."""
    given = {"model": NAME, "source": "someone/small vectors.json", "how": "By hand.", "text": TEXT}
    given |= {"value": "mean", "width": 15, "tolerance": ENCODER, "components": (0.5, -0.25)}
    return PublishedVector(**given | fields)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("model"), "jinabert-geglu")


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory):
    """The same model with one other weight."""
    tensors = dict(models.published(models.encoder("jinabert-geglu")))
    changed = tensors["encoder.layer.1.mlp.wo.bias"].copy()
    changed[7] += 0.1
    tensors["encoder.layer.1.mlp.wo.bias"] = changed
    return write_folder(tmp_path_factory.mktemp("other"), "jinabert-geglu", tensors=tensors)


@pytest.fixture(scope="module")
def entries(folder):
    """Vectors of the stand-in in every form, as another part of the package computes them."""
    embedder = Embedder.from_pretrained(folder)
    states = embedder.encode_tokens(TEXT).embeddings
    means = embedder.encode([TEXT, OTHER])
    unit = means[0] / np.linalg.norm(means[0])

    def numbers(values):
        return tuple(map(float, values))

    return (
        entry(components=numbers(means[0]), cosine=0.9999),
        entry(components=numbers(unit[:11]), normalised=True),
        entry(components=numbers(states[0]), value="cls", cosine=0.9999),
        entry(components=numbers(states[3, :13]), value="token", row=3),
        entry(components=numbers(embedder.similarity(*means).ravel()), other=OTHER),
    )


@pytest.fixture
def known(entries, monkeypatch):
    """The stand-in's vectors in place of the package's."""
    monkeypatch.setattr(published, "everything", lambda: entries)
    return entries


def opened(folder):
    """The model that computes vectors."""
    return load_model(folder, revision=None, ignore_config=(), dtype="float32")


# --- the file ----------------------------------------------------------------------------------


def test_all_models_are_there():
    assert sorted({own.model for own in VECTORS}) == sorted(WIDTHS)


@pytest.mark.parametrize("name", WIDTHS)
def test_entries_are_well_formed(name):
    for own in published.published(name):
        assert own.width == WIDTHS[name]
        assert 1 <= len(own.components) <= (own.width if own.other is None else 1)
        assert np.isfinite([*own.components, own.tolerance, own.cosine or 0.0]).all()
        assert own.tolerance > 0
        assert (own.cosine is not None) is own.whole
        assert own.value in ("mean", "cls", "token")
        assert (own.row is not None) is (own.value == "token")
        assert own.row is None or own.row >= 0
        assert own.text.strip()
        assert len(own.how) > 20
        assert own.how.endswith(".")
        repository, path = own.source.split(" ")
        assert repository.count("/") == 1
        assert "." in path
        assert own.revision is None or len(own.revision) == 40
        if own.normalised:
            assert np.linalg.norm(own.components) < 1.0
            share = 1e-2 * own.components[0] if "bfloat16" in own.how else 1e-3
            assert own.tolerance == pytest.approx(share, abs=1e-5)


def test_tolerances_are_a_thousandth_of_the_norm_where_the_norm_is_known():
    whole = [own for own in VECTORS if own.whole]
    assert len(whole) >= 8
    for own in whole:
        assert own.tolerance == pytest.approx(1e-3 * np.linalg.norm(own.components), rel=0.05)
        assert own.cosine == pytest.approx(0.9999)


def test_what_is_published_twice_agrees():
    def of(own):
        return own.model, own.text, own.other, own.value.replace("cls", "token"), own.row or 0

    pairs = 0
    for one, two in itertools.combinations(VECTORS, 2):
        if of(one) == of(two) and one.normalised == two.normalised:
            shared = slice(min(len(one.components), len(two.components)))
            difference = np.subtract(one.components[shared], two.components[shared])
            assert np.abs(difference).max() < min(one.tolerance, two.tolerance)
            pairs += 1
    assert pairs >= 4


def test_the_file_is_small_and_has_an_entry_a_line():
    text = FILE.read_text(encoding="utf-8")
    assert len(text.encode()) < 120_000
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert len(lines) - 2 == len(VECTORS)
    for line in lines[1:-1]:
        assert json.loads(line.removesuffix(","))["model"] in WIDTHS


# --- the real all-MiniLM-L6-v2 -----------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm_model(minilm):
    return opened(minilm)


def label(own):
    return f"{own.source.split('/')[-1]}-{own.title}-{own.text[:4]}"


@pytest.mark.parametrize("own", published.published(hub.DEFAULT_MODEL), ids=label)
def test_the_real_model_reproduces(own, minilm_model):
    outcome = published.check(own, minilm_model)
    assert outcome.largest <= own.tolerance
    assert (outcome.cosine is None) is not own.whole
    assert outcome.reproduced


def test_what_is_left_beside_the_tanh_approximation_is_that_approximation(
    minilm, minilm_model, monkeypatch
):
    ours = [own for own in published.published(hub.DEFAULT_MODEL) if "at once" in own.how]
    ours = [own for own in ours if "tanh" in own.how]
    assert {own.value for own in ours} == {"mean", "cls", "token"}
    monkeypatch.setitem(activations.ACTIVATIONS, "gelu", activations.gelu_tanh)
    theirs = opened(minilm)
    for own in ours:
        exact, approximate = (published.check(own, found) for found in (minilm_model, theirs))
        assert approximate.largest < exact.largest / 10, own.title


# --- a stand-in --------------------------------------------------------------------------------


def test_the_right_model_reproduces_every_form(entries, folder):
    for own in entries:
        outcome = published.check(own, opened(folder))
        assert outcome.reproduced, own.title
        assert outcome.largest <= ENCODER
        assert (outcome.cosine is None) is not own.whole


def test_one_other_weight_is_found_in_every_form(entries, other_folder):
    for own in entries:
        outcome = published.check(own, opened(other_folder))
        assert not outcome.reproduced, own.title
        assert outcome.largest > ENCODER


def test_the_least_cosine_counts_too(entries, folder):
    turned = np.array(entries[0].components)
    turned[3] += 0.2 * np.linalg.norm(turned)
    own = dataclasses.replace(entries[0], components=tuple(map(float, turned)), tolerance=1e3)
    outcome = published.check(own, opened(folder))
    assert outcome.largest < own.tolerance
    assert outcome.cosine < own.cosine
    assert not outcome.reproduced


def test_a_token_that_the_text_lacks_is_not_reproduced(folder):
    outcome = published.check(entry(value="token", row=5, tolerance=1e3), opened(folder))
    assert math.isnan(outcome.largest)
    assert not outcome.reproduced
    assert published.check(entry(value="token", row=4, tolerance=1e3), opened(folder)).reproduced


def test_another_width_is_another_model(folder):
    with pytest.raises(InputError, match=r"someone/small have 17 components.*makes 15"):
        published.check(entry(width=17), opened(folder))


# --- which model a name or folder is -----------------------------------------------------------


def test_names_of_the_default_model(minilm):
    for name in (hub.DEFAULT_MODEL, "all-MiniLM-L6-v2", minilm, str(minilm)):
        assert published.identify(name) == hub.DEFAULT_MODEL


def test_hub_names():
    for name in WIDTHS:
        assert published.identify(name) == name
    assert published.identify("someone/else") is None


def test_folders(tmp_path, monkeypatch):
    name = "jinaai/jina-embeddings-v2-small-en"
    snapshot = tmp_path / "models--jinaai--jina-embeddings-v2-small-en" / "snapshots" / "44e7d1d"
    unknown = tmp_path / "models--someone--else" / "snapshots" / "44e7d1d"
    blobs = snapshot.parents[1] / "blobs" / "44e7d1d"
    for path in (snapshot, unknown, blobs, tmp_path / name):
        path.mkdir(parents=True)
    assert published.identify(snapshot) == name
    assert published.identify(unknown) is None
    assert published.identify(blobs) is None
    monkeypatch.chdir(tmp_path)
    assert published.identify(name) is None  # a folder of that name may hold anything


def test_a_name_without_published_vectors_is_told_the_others(known):
    with pytest.raises(InputError, match="'someone/else'; there are some for: someone/small"):
        published.published("someone/else")


# --- the command -------------------------------------------------------------------------------


def test_verify_of_the_default_model(capsys):
    assert run("verify") == 0
    lines = capsys.readouterr().out.splitlines()
    own = published.published(hub.DEFAULT_MODEL)
    assert sum("  reproduced  " in line for line in lines) == len(own)
    assert lines[-1] == f"all {len(own)} published values of {hub.DEFAULT_MODEL} are reproduced"
    for found in own:
        assert any(line.endswith(found.source) for line in lines)
        assert any(line.endswith(found.how) for line in lines)


def test_verify_of_a_right_folder(known, folder, capsys):
    assert run("verify", folder, "--published", NAME) == 0
    out = capsys.readouterr().out
    assert "agrees with the float64 reference" in out
    assert out.endswith(f"all {len(known)} published values of {NAME} are reproduced\n")
    for title in ("mean, length one", "token 3", "cosine of means"):
        assert title in out


def test_verify_of_a_wrong_folder(known, other_folder, capsys):
    assert run("verify", other_folder, "--published", NAME) == 1
    out = capsys.readouterr().out
    assert "agrees with the float64 reference" in out
    assert out.count("NOT REPRODUCED  ") == len(known)
    assert out.endswith(
        f"{len(known)} of {len(known)} published values of {NAME} are NOT REPRODUCED\n"
    )


def test_verify_of_a_snapshot_in_the_cache(known, tmp_path, capsys):
    snapshot = tmp_path / "models--someone--small" / "snapshots" / "1234"
    write_folder(snapshot, "jinabert-geglu")
    assert run("verify", snapshot) == 0
    assert f"published values of {NAME} are reproduced" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "no published values are known for this model"),
        (["--published", NAME, "--dtype", "bfloat16"], f"of {NAME} are compared in float32 only"),
    ],
)
def test_where_nothing_is_compared_verify_says_so(known, folder, capsys, arguments, line):
    assert run("verify", folder, *arguments) == 0
    out = capsys.readouterr().out
    assert line in out.splitlines()[-1]
    assert "reproduced" not in out


def test_without_a_tokenizer_verify_says_so(known, capsys):
    assert run("verify", GOLDEN / "jinabert-qk-post-norm", "--published", NAME) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "agrees with the float64 reference on 3 rows of random ids" in lines[-2]
    assert lines[-1] == f"the published values of {NAME} need a tokenizer, and the folder has none"


def test_an_unknown_name_is_one_sentence_before_any_work(known, folder, capsys):
    assert run("verify", folder, "--published", "someone/else") == 1
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.startswith("jaxbert: no published values are known for 'someone/else'; ")
    assert NAME in done.err
    assert done.err.count("\n") == 1


def test_a_folder_of_another_width_is_one_sentence(folder, capsys):
    assert run("verify", folder, "--published", hub.DEFAULT_MODEL) == 1
    done = capsys.readouterr()
    assert "agrees with the float64 reference" in done.out
    assert "have 384 components, but this encoder makes 15" in done.err
    assert done.err.count("\n") == 1
