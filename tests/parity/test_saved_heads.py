"""What jaxbert saves, loaded by sentence-transformers and by transformers, live."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")

from dataclasses import replace

from flax import nnx
from tokenizers import BertWordPieceTokenizer

from jaxbert import CrossEncoder, MaskedLM
from jaxbert.checkpoint.sentence_transformers.cross_encoder import CrossEncoderSettings
from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.config import EncoderConfig
from jaxbert.model.head import Classifier, MaskedLanguageHead
from jaxbert.text.tokenizer import Tokenizer
from tests.models import make, randomised
from tests.parity.test_heads import (
    OLD,
    PAIRS,
    POSITIONS,
    PROMPTS,
    SEED,
    TORCH,
    WORDS,
    agree,
    check_answers,
    check_logits,
    classifier,
    differ,
    edit,
    opened,
    reload,
    save,
    write,
)
from tests.parity.torch_models import VOCABULARY
from tests.tolerances import GOLDEN_ENCODER, close

pytestmark = pytest.mark.torch

SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 28,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 13,
    "max_positions": POSITIONS,
    "type_vocab_size": 5,
}


def by_class(folder, kind, *options):
    """A model by a class of transformers; every weight must be found, and every tensor used."""
    model, loaded = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    assert not any(loaded[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def logits(folder, ours, tokenizer):
    """The logits of transformers' own class for the pairs, which jaxbert must give too."""
    model = by_class(folder, transformers.BertForSequenceClassification)
    first, second = zip(*PAIRS, strict=True)
    cut = {"padding": True, "truncation": "longest_first", "max_length": ours.max_seq_length}
    given = tokenizer(list(first), list(second), return_tensors="pt", **cut)
    with torch.no_grad():
        expected = model(**given).logits.numpy()
    found = ours.predict(PAIRS, prompt="", activation_fn="Identity").reshape(expected.shape)
    close(found, expected, GOLDEN_ENCODER)
    return model


def check_scores(folder, ours):
    """The folder gives the model's scores in both libraries, by default and by name."""
    theirs = reload(folder)
    assert theirs.max_seq_length == ours.max_seq_length
    assert type(theirs.activation_fn).__name__ == ours.settings.activation_name
    assert tuple(theirs.config.id2label[i] for i in range(ours.num_labels)) == ours.settings.labels
    found = agree(ours, theirs)
    logits(folder, ours, theirs.tokenizer)
    np.testing.assert_array_equal(CrossEncoder.from_pretrained(folder).predict(PAIRS), found)
    return found


def trained(model):
    """The model, with every weight drawn anew in place."""
    for part in (model.encoder, model.head):
        nnx.update(part, nnx.state(randomised(part, 5)))
    return model


def anew(model):
    """The same parts without a folder."""
    return CrossEncoder(model.encoder, model.head, model.tokenizer, model.settings)


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("activation", [None, *TORCH])
def test_a_cross_encoder_of_a_bare_folder(tmp_path, labels, activation):
    ours = CrossEncoder.from_pretrained(classifier(tmp_path / "bare", labels))
    ours.settings = replace(ours.settings, activation=activation)
    ours.save_pretrained(tmp_path / "saved")
    check_scores(tmp_path / "saved", ours)


def test_a_cross_encoder_of_a_folder_that_sentence_transformers_saved(tmp_path):
    theirs = reload(
        classifier(tmp_path / "bare", 1),
        prompts=PROMPTS,
        default_prompt_name="long",
        activation_fn=torch.nn.Tanh(),
    )
    first = write(theirs, tmp_path / "theirs")
    ours = CrossEncoder.from_pretrained(first)
    ours.save_pretrained(tmp_path / "ours")
    found = check_scores(tmp_path / "ours", ours)
    close(theirs.predict(PAIRS), found, GOLDEN_ENCODER)
    again = reload(tmp_path / "ours")
    assert again.prompts == theirs.prompts
    assert again.default_prompt_name == "long"
    differ(found, ours.predict(PAIRS, prompt=""))
    # And once round: saved by theirs again, the scores are still the same.
    twice = CrossEncoder.from_pretrained(write(again, tmp_path / "again"))
    np.testing.assert_array_equal(twice.predict(PAIRS), found)


def test_settings_that_were_changed(tmp_path):
    bare = classifier(tmp_path / "bare", 3)
    edit(bare / "config.json", **{OLD: TORCH["Tanh"]})
    ours = CrossEncoder.from_pretrained(bare)
    before = ours.predict(PAIRS)
    ours.max_seq_length = 11
    ours.settings = replace(
        ours.settings, labels=("no", "perhaps", "yes"), activation="Sigmoid", prompts=PROMPTS
    )
    ours.save_pretrained(tmp_path / "saved")
    differ(check_scores(tmp_path / "saved", ours), before)


def test_a_trained_cross_encoder(tmp_path):
    ours = CrossEncoder.from_pretrained(classifier(tmp_path / "bare", 3))
    before = ours.predict(PAIRS)
    trained(ours).save_pretrained(tmp_path / "saved")
    differ(check_scores(tmp_path / "saved", anew(ours)), before)


def word_pieces():
    """The tokenizer of the tests, that never was in a folder."""
    words = {word: i for i, word in enumerate(VOCABULARY)}
    return Tokenizer(BertWordPieceTokenizer(words, lowercase=True)._tokenizer, "right")


@pytest.mark.parametrize("labels", [1, 3])
def test_a_cross_encoder_made_by_hand(tmp_path, labels):
    config = EncoderConfig.bert(**SIZES)
    head = randomised(Classifier(config.sizes, labels, rngs=nnx.Rngs(0), std=1.0), 3)
    names = tuple(f"grade {i}" for i in range(labels))
    settings = CrossEncoderSettings(names, max_length=POSITIONS)
    ours = CrossEncoder(make(config), head, word_pieces(), settings)
    ours.save_pretrained(tmp_path)
    check_scores(tmp_path, ours)


@pytest.mark.parametrize("listed", [["input_ids", "attention_mask"], None])
def test_inputs_that_the_tokenizer_lists(tmp_path, listed):
    folder = classifier(tmp_path / "bare", 3)
    ours = CrossEncoder.from_pretrained(folder)
    typed = ours.predict(PAIRS)
    if listed is not None:
        edit(folder / "tokenizer_config.json", model_input_names=listed)
        ours = CrossEncoder.from_pretrained(folder)
        differ(ours.predict(PAIRS), typed)
    ours.save_pretrained(tmp_path / "saved")
    agree(ours, reload(tmp_path / "saved"))


# --- masked language models ----------------------------------------------------------------------


def check_words(folder, ours):
    """The folder gives the model's logits in transformers."""
    theirs = opened(folder)[1]
    by_class(folder, transformers.BertForMaskedLM)
    return check_logits(ours, theirs), theirs


def test_a_masked_language_model_of_a_folder(tmp_path):
    ours = MaskedLM.from_pretrained(save(tmp_path / "a", transformers.BertForMaskedLM, seed=SEED))
    ours.save_pretrained(tmp_path / "b")
    _, theirs = check_words(tmp_path / "b", ours)
    check_answers(ours, theirs)


def test_a_model_of_pre_training_and_one_that_was_trained(tmp_path):
    save(tmp_path / "a", transformers.BertForPreTraining, seed=SEED)
    ours = MaskedLM.from_pretrained(tmp_path / "a")
    ours.save_pretrained(tmp_path / "b")
    before = check_logits(ours, opened(tmp_path / "b")[1])
    by_class(tmp_path / "b", transformers.BertForPreTraining)
    trained(ours).save_pretrained(tmp_path / "c")
    differ(check_logits(ours, opened(tmp_path / "c")[1]), before)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
def test_a_masked_language_model_made_by_hand(tmp_path, tied, activation):
    config = EncoderConfig.bert(**SIZES | {"activation": activation})
    head = MaskedLanguageHead(config, ACTIVATIONS[activation], rngs=nnx.Rngs(0), tied=tied)
    ours = MaskedLM(make(config), randomised(head, 3), word_pieces(), max_length=17)
    ours.save_pretrained(tmp_path)
    _, theirs = check_words(tmp_path, ours)
    assert theirs.tokenizer.model_max_length == 17
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [
        "BertForMaskedLM"
    ]
