"""Published scores: what the package knows, what a model makes of them, and what verify says."""

import dataclasses
import itertools
import json
import shutil
from importlib import resources

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert import cli
from jaxbert.errors import CheckpointError, InputError
from jaxbert.inference.scoring import ACTIVATIONS
from jaxbert.verify import published
from jaxbert.verify.opened import load_model
from jaxbert.verify.published_scores import PublishedScores
from tests.models import GOLDEN, write_folder
from tests.tolerances import GOLDEN_ENCODER

LABELS = {
    "jinaai/jina-reranker-v1-tiny-en": 1,
    "jinaai/jina-reranker-v1-turbo-en": 1,
    "cross-encoder/ms-marco-MiniLM-L2-v2": 1,
    "cross-encoder/ms-marco-MiniLM-L4-v2": 1,
    "cross-encoder/ms-marco-MiniLM-L6-v2": 1,
    "cross-encoder/ms-marco-MiniLM-L12-v2": 1,
    "cross-encoder/ms-marco-TinyBERT-L2": 1,
    "cross-encoder/ms-marco-TinyBERT-L2-v2": 1,
    "cross-encoder/ms-marco-TinyBERT-L4": 1,
    "cross-encoder/ms-marco-TinyBERT-L6": 1,
    "cross-encoder/stsb-TinyBERT-L4": 1,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce": 1,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce-tanh-v3": 1,
    "cross-encoder-testing/reranker-bert-tiny-gooaq-bce-tanh-v4": 1,
    "BAAI/bge-reranker-base": 1,
    "BAAI/bge-reranker-large": 1,
    "BAAI/bge-reranker-v2-m3": 1,
    "ibm-research/re2g-reranker-nq": 2,
    "Alibaba-NLP/gte-reranker-modernbert-base": 1,
}
FILE = resources.files("jaxbert.verify") / "published_scores.json"
SCORES = [own for own in published.everything() if isinstance(own, PublishedScores)]
NAME = "someone/reranker"  # a stand-in, for which others have recorded scores
# of scores that are near 1; the tests of the model itself have the bound relative to the largest
TOLERANCE = 2 * GOLDEN_ENCODER


def run(*arguments):
    """The command's exit status."""
    return cli.main([str(argument) for argument in arguments])


def opened(folder):
    """The model that computes scores."""
    return load_model(folder, revision=None, ignore_config=(), dtype="float32")


def entry(known, scores, activation, **fields):
    """Published scores of the stand-in."""
    given = {
        "model": NAME,
        "source": "someone/reranker scores.json",
        "how": "By hand.",
        "text": known["query"],
        "documents": tuple(known["documents"]),
        "activation": activation,
        "scores": tuple(map(float, np.ravel(scores))),
        "tolerance": TOLERANCE,
    }
    return PublishedScores(**given | fields)


def recorded(name):
    """What sentence-transformers or the published code gave for pairs."""
    return json.loads((GOLDEN / name / "pairs.json").read_text(encoding="utf-8"))


def changed(folder, into, name, add):
    """A copy of a folder in which the first number of a tensor has something added to it."""
    shutil.copytree(folder, into)
    tensors = load_file(into / "model.safetensors")
    tensors[name].flat[0] += add
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    return into


ONE, MANY, JINA = "bert-cross-encoder", "bert-cross-encoder-3labels", "jinabert-reranker"


@pytest.fixture(scope="module")
def entries():
    """Recorded scores in every form, by the folder that they are of."""
    one, many, jina = map(recorded, (ONE, MANY, JINA))
    return {
        ONE: (
            entry(one, one["predict"], "Identity"),
            entry(one, one["predict_sigmoid"], "Sigmoid"),
        ),
        MANY: (entry(many, many["predict"], "Identity"),),
        JINA: (
            entry(jina, jina["logits"], "Identity"),
            entry(jina, jina["scores"], "Sigmoid"),
        ),
    }


@pytest.fixture
def known(entries, monkeypatch):
    """The scores of the stand-in with one label in place of the package's."""
    monkeypatch.setattr(published, "everything", lambda: entries[ONE])
    return entries[ONE]


# --- the file ----------------------------------------------------------------------------------


def test_all_models_are_there():
    assert sorted({own.model for own in SCORES}) == sorted(LABELS)


@pytest.mark.parametrize("name", LABELS)
def test_entries_are_well_formed(name):
    for own in published.published(name):
        assert own.labels == LABELS[name]
        assert len(own.scores) == own.labels * max(1, len(own.documents))
        assert len(set(own.documents)) == len(own.documents)
        assert all(text.strip() for text in (own.text, *own.documents))
        assert np.isfinite(own.scores).all()
        assert 1e-3 <= own.tolerance <= 1e-2
        least = {"Identity": -np.inf, "Sigmoid": 0.0, "Tanh": -1.0}[own.activation]
        most = np.inf if own.activation == "Identity" else 1.0
        assert all(least < score < most for score in own.scores)
        assert len(own.how) > 20
        assert own.how.endswith(".")
        repository, path = own.source.split(" ")
        assert repository.count("/") == 1
        assert "." in path
        assert own.revision is None or len(own.revision) == 40


def test_what_is_published_twice_agrees():
    def of(own):
        """The scores of each pair, by model and texts."""
        rows = np.reshape(own.scores, (-1, own.labels))
        pairs = zip(own.documents or ("",), rows, strict=True)
        return {(own.model, own.text, document): row for document, row in pairs}

    agreed = 0
    for one, two in itertools.combinations(SCORES, 2):
        a, b = of(one), of(two)
        for key in a.keys() & b.keys():
            left, right = a[key], b[key]
            if one.activation != two.activation:
                left, right = (
                    ACTIVATIONS["Sigmoid"](side) if own.activation == "Identity" else side
                    for own, side in ((one, left), (two, right))
                )
            assert np.abs(left - right).max() < 1e-6
            agreed += 1
    assert agreed >= 3


def test_the_file_is_small_and_has_an_entry_a_line():
    text = FILE.read_text(encoding="utf-8")
    assert len(text.encode()) < 40_000
    lines = text.splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert len(lines) - 2 == len(SCORES)
    for line in lines[1:-1]:
        assert json.loads(line.removesuffix(","))["model"] in LABELS


# --- a stand-in --------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [ONE, MANY, JINA])
def test_what_others_recorded_is_reproduced(entries, folder):
    model = opened(GOLDEN / folder)
    for own in entries[folder]:
        outcome = published.check(own, model)
        assert outcome.largest <= TOLERANCE, own.title
        assert outcome.cosine is None
        assert outcome.reproduced


@pytest.mark.parametrize("folder", [ONE, MANY, JINA])
def test_another_weight_is_found(entries, folder, tmp_path):
    model = opened(changed(GOLDEN / folder, tmp_path / "other", "classifier.bias", 0.01))
    for own in entries[folder]:
        outcome = published.check(own, model)
        assert outcome.largest > TOLERANCE, own.title
        assert not outcome.reproduced


@pytest.mark.parametrize("folder", [ONE, MANY, JINA])
def test_one_wrong_score_is_found_wherever_it_is(entries, folder):
    model, own = opened(GOLDEN / folder), entries[folder][0]
    for i in range(len(own.scores)):
        scores = np.array(own.scores)
        scores[i] += 2 * TOLERANCE
        wrong = dataclasses.replace(own, scores=tuple(map(float, scores)))
        assert not published.check(wrong, model).reproduced


def test_a_text_alone_is_no_pair_with_an_empty_text():
    folder = GOLDEN / ONE
    model, text = opened(folder), recorded(ONE)["query"]
    alone = PublishedScores(
        model=NAME,
        source="someone/reranker scores.json",
        how="By hand.",
        text=text,
        documents=(),
        activation="Identity",
        scores=(0.0,),
        tolerance=TOLERANCE,
    )
    ids = model.needed_tokenizer([text])[0]
    states = model.encoder(ids[None])
    expected = np.asarray(model.part.head(states, jnp.ones(ids[None].shape, bool)))[0]
    assert alone.compute(model) == pytest.approx(expected, abs=TOLERANCE)
    empty = dataclasses.replace(alone, documents=("",)).compute(model)
    assert np.abs(empty - expected).max() > TOLERANCE


def test_other_models_are_refused(entries, tmp_path):
    (own, *_), (three,) = entries[ONE], entries[MANY]
    with pytest.raises(InputError, match="gives 3 scores of a text, but this model gives 1"):
        published.check(three, opened(GOLDEN / ONE))
    embedder = write_folder(tmp_path / "embedder")
    with pytest.raises(InputError, match=f"published for {NAME} are scores of a reranker, but"):
        published.check(own, opened(embedder))
    bare = shutil.copytree(GOLDEN / ONE, tmp_path / "bare")
    for name in ("tokenizer.json", "vocab.txt"):
        (bare / name).unlink()
    with pytest.raises(CheckpointError, match=r"bare has no tokenizer; add tokenizer\.json"):
        published.check(own, opened(bare))


# --- the command -------------------------------------------------------------------------------


def test_verify_of_a_right_folder(known, capsys):
    assert run("verify", GOLDEN / ONE, "--published", NAME) == 0
    out = capsys.readouterr().out
    assert "agrees with the float64 reference" in out
    assert out.endswith(f"all {len(known)} published values of {NAME} are reproduced\n")
    for title in ("  logits  ", "  Sigmoid of logits  "):
        assert title in out


def test_verify_of_a_wrong_folder(known, tmp_path, capsys):
    other = changed(GOLDEN / ONE, tmp_path / "other", "classifier.bias", 0.01)
    assert run("verify", other, "--published", NAME) == 1
    out = capsys.readouterr().out
    assert "agrees with the float64 reference" in out
    assert out.count("NOT REPRODUCED  ") == len(known)
    assert out.endswith(
        f"{len(known)} of {len(known)} published values of {NAME} are NOT REPRODUCED\n"
    )


def test_verify_of_a_snapshot_in_the_cache(known, tmp_path, capsys):
    snapshot = tmp_path / "models--someone--reranker" / "snapshots" / "1234"
    shutil.copytree(GOLDEN / ONE, snapshot)
    assert run("verify", snapshot) == 0
    assert f"published values of {NAME} are reproduced" in capsys.readouterr().out


def test_bfloat16_is_not_compared(known, capsys):
    assert run("verify", GOLDEN / ONE, "--published", NAME, "--dtype", "bfloat16") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"the published values of {NAME} are compared in float32 only, not in bfloat16"


def test_an_embedder_is_one_sentence(known, tmp_path, capsys):
    assert run("verify", write_folder(tmp_path / "embedder"), "--published", NAME) == 1
    done = capsys.readouterr()
    assert "agrees with the float64 reference" in done.out
    assert "are scores of a reranker, but this folder is that of an encoder" in done.err
    assert done.err.count("\n") == 1
