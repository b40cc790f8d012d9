"""What each kind of folder is for: who opens it, who refuses it, and before what is read."""

import warnings

import numpy as np
import pytest

from jaxbert import CrossEncoder, Embedder, Encoder, MaskedLM, MultiVectorEncoder, cli
from jaxbert.checkpoint import heads, masked_language, tensors
from jaxbert.checkpoint.kinds import KINDS, task_of
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.tensors import open_folder
from jaxbert.errors import CheckpointError
from tests.models import (
    CONFIGS,
    GOLDEN,
    encoder,
    masked,
    published,
    raw_config,
    scored,
    write_folder,
)

FACES = {
    face.__name__: face for face in (Embedder, CrossEncoder, MaskedLM, MultiVectorEncoder, Encoder)
}
MODULES = [
    {"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
    for i, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling")])
]
EMBEDS = {"modules": MODULES, "1_Pooling__config": {}}
# A classifier of tokens has no pooler.
TOKENS = {name: value for name, value in scored(labels=3).items() if "pooler" not in name}


def of_class(name):
    """config.json with the class that a model was saved from."""
    return {"config": raw_config(CONFIGS["bert-gelu"]) | {"architectures": [name]}}


# What write_folder is given, the title, and the classes that open it.
FOLDERS = {
    "reranker": ({"tensors": scored()}, "reranker", "CrossEncoder Encoder"),
    "three labels": ({"tensors": scored(labels=3)}, "classifier", "CrossEncoder Encoder"),
    "masked": ({"tensors": masked()}, "masked language model", "MaskedLM Embedder Encoder"),
    "embedder": (EMBEDS, "embedder", "Embedder Encoder"),
    "embedder that fills": (
        {"tensors": masked()} | EMBEDS,
        "embedder",
        "Embedder MaskedLM Encoder",
    ),
    "embedder of a classifier's class": (
        of_class("BertForSequenceClassification") | EMBEDS,
        "embedder",
        "Embedder Encoder",
    ),
    "bare": ({}, "bare encoder", "Encoder Embedder"),
    "tokens": (
        {"tensors": TOKENS} | of_class("BertForTokenClassification"),
        "model of another task",
        "Encoder",
    ),
    "questions": (
        {"tensors": published(encoder("bert-gelu")) | {"qa_outputs.weight": np.ones((2, 15))}},
        "model of another task",
        "Encoder",
    ),
    "choices": (
        {"tensors": scored()} | of_class("BertForMultipleChoice"),
        "model of another task",
        "Encoder",
    ),
}


@pytest.fixture(params=FOLDERS)
def case(request, tmp_path):
    files, title, faces = FOLDERS[request.param]
    return write_folder(tmp_path / "model", **files), title, faces.split()


@pytest.fixture
def unread(monkeypatch):
    """From now on no number of a weight may be read."""

    def read(*_, **__):
        raise AssertionError("weights were read")

    for module in (tensors, heads, masked_language):
        monkeypatch.setattr(module, "readers", read)


def test_who_opens_a_folder_and_who_names_another_class(case, request):
    folder, title, faces = case
    kind = task_of(folder, open_folder(folder)).kind
    assert (kind.title, kind.opens) == (title, tuple(faces))
    for name in faces:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            FACES[name].from_pretrained(folder)
    request.getfixturevalue("unread")
    for name in FACES.keys() - set(faces):
        with pytest.raises(CheckpointError, match=f"{name} does not open it; open it with") as told:
            FACES[name].from_pretrained(folder)
        assert f"is a{'n' if title[0] == 'e' else ''} {title} (it has " in str(told.value)
        assert f"open it with {faces[0]}, " in str(told.value)


def test_info_and_verify_say_what_is_there(case, capsys):
    folder, title, faces = case
    assert cli.main(["info", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"task          {title} (" in out
    assert f"opens with    {', '.join(faces)}\n" in out
    assert cli.main(["verify", str(folder)]) == 0
    out = capsys.readouterr().out
    assert ("logits " in out) is ("CrossEncoder" in faces or faces[0] == "MaskedLM")
    assert ("the head is not compared" in out) is (faces == ["Encoder"])


def test_every_kind_is_met():
    met = {title for _, title, _ in FOLDERS.values()}
    assert {kind.title for kind in KINDS} == met | {"late-interaction model"}


@pytest.mark.parametrize("name", ["bert-colbert", "jinabert-colbert"])
def test_late_interaction_is_opened_by_its_class_alone(name, capsys):
    for face in ("Embedder", "CrossEncoder", "MaskedLM"):
        with pytest.raises(CheckpointError, match=f"{face} does not open it; open it with MultiV"):
            FACES[face].from_pretrained(GOLDEN / name)
    assert cli.main(["info", str(GOLDEN / name)]) == 0
    out = capsys.readouterr().out
    assert "late-interaction model" in out
    assert "MultiVectorEncoder, Encoder" in out
    assert cli.main(["verify", str(GOLDEN / name)]) == 0


def test_a_class_whose_tensors_are_lost(tmp_path):
    folder = write_folder(tmp_path, **of_class("BertForSequenceClassification"))
    assert open_model(folder).task.kind.title == "classifier"
    with pytest.raises(CheckpointError, match=r"lacks classifier\.weight; fetch"):
        CrossEncoder.from_pretrained(folder)


LABELS = {"0": "no", "1": "yes"}
BAD = {
    "three labels": (["rank"], {"tensors": scored(labels=3)}, "gives 3 scores (LABEL_0, LABEL_1"),
    "rows": (
        ["rank"],
        {"tensors": scored(), "config": raw_config(CONFIGS["bert-gelu"]) | {"id2label": LABELS}},
        "has id2label for 2 labels, but classifier.weight has 1 rows",
    ),
    "tokens": (
        ["rank"],
        FOLDERS["tokens"][0],
        "so CrossEncoder does not open it; open it with Enc",
    ),
    "decoder": (
        ["rank"],
        {"tensors": scored(), "config": raw_config(CONFIGS["bert-gelu"]) | {"is_decoder": True}},
        "config.json has is_decoder = True; only BERT and JinaBERT encoders",
    ),
    "embedder": (["rank"], EMBEDS, "so CrossEncoder does not open it; open it with Embedder"),
    "to fill": (
        ["fill"],
        {"tensors": scored()},
        "so MaskedLM does not open it; open it with Cross",
    ),
    "to embed": (["similarity", "a"], {"tensors": scored()}, "so Embedder does not open it; open"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_command_refuses_in_one_sentence_before_weights_are_read(
    name, tmp_path, capsys, unread
):
    command, files, sentence = BAD[name]
    folder = write_folder(tmp_path / "model", **files)
    (tmp_path / "in.txt").write_text("a\n")
    more = [str(tmp_path / "in.txt")] if command == ["rank"] else []
    assert cli.main([*command, "a [MASK]", *more, "--model", str(folder)]) == 1
    done = capsys.readouterr()
    assert done.out == ""
    assert sentence in done.err
    assert done.err.count("\n") == 1
