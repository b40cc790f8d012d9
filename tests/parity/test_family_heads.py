"""CrossEncoder on families beside BERT, live: folders as transformers saves its classifiers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from sentence_transformers import CrossEncoder as TheirCrossEncoder

from jaxbert import CrossEncoder, Embedder, MaskedLM
from jaxbert.checkpoint.opening import open_model
from jaxbert.errors import CheckpointError
from tests.parity.test_families import DISTIL, MODERN, ROBERTA, made
from tests.parity.test_heads import PAIRS, VOCABULARY
from tests.parity.torch_models import draw, save_tokenizer
from tests.tolerances import GOLDEN_ENCODER, close

pytestmark = pytest.mark.torch

t = transformers
WORDS = {"vocab_size": len(VOCABULARY) + 3}
CLASSIFIERS = {
    "xlm-roberta": (t.XLMRobertaForSequenceClassification, t.XLMRobertaConfig, ROBERTA | WORDS),
    "roberta": (t.RobertaForSequenceClassification, t.RobertaConfig, ROBERTA | WORDS),
    "mpnet": (t.MPNetForSequenceClassification, t.MPNetConfig, ROBERTA | WORDS),
    "distilbert": (t.DistilBertForSequenceClassification, t.DistilBertConfig, DISTIL | WORDS),
    "modernbert": (t.ModernBertForSequenceClassification, t.ModernBertConfig, MODERN | WORDS),
    "modernbert, mean": (
        t.ModernBertForSequenceClassification,
        t.ModernBertConfig,
        MODERN | WORDS | {"classifier_pooling": "mean", "classifier_activation": "silu"},
    ),
}


def save(folder, name, labels):
    """A folder with a small classifier of a family, and BERT's tokenizer without token types."""
    kind, config, changes = CLASSIFIERS[name]
    model = draw(kind(config(**changes, num_labels=labels)), seed=labels)
    save_tokenizer(folder, lowercase=True)
    tokenizer = t.AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.model_max_length = 41
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_scores_are_those_of_sentence_transformers(name, labels, tmp_path):
    folder = save(tmp_path, name, labels)
    theirs = TheirCrossEncoder(str(folder), device="cpu")
    if "roberta" in name:  # which has one type, where this tokenizer gives two
        with pytest.raises(CheckpointError, match="the model has one type"):
            CrossEncoder.from_pretrained(folder)
        return
    ours = CrossEncoder.from_pretrained(folder)
    close(ours.predict(PAIRS), theirs.predict(PAIRS), GOLDEN_ENCODER)
    again = tmp_path / "again"
    ours.save_pretrained(again)
    np.testing.assert_array_equal(
        CrossEncoder.from_pretrained(again).predict(PAIRS), ours.predict(PAIRS)
    )
    loaded = TheirCrossEncoder(str(again), device="cpu")
    close(loaded.predict(PAIRS), theirs.predict(PAIRS), GOLDEN_ENCODER)
    with pytest.raises(CheckpointError, match="open it with CrossEncoder"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize(
    "name",
    [
        "roberta with a head",
        "mpnet with a head",
        "distilbert with a head",
        "modernbert with a head",
    ],
)
def test_a_masked_language_model_of_another_family_is_said(name, tmp_path):
    made(name).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, lowercase=True)
    task = open_model(tmp_path).task
    assert task.kind.title == "masked language model"
    with pytest.raises(CheckpointError, match="not implemented for its family, so MaskedLM does"):
        MaskedLM.from_pretrained(tmp_path)
