"""Masked language models: logits, what fills a mask, and which folders are refused."""

import copy
import json
import pickle
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxbert import MaskedLM, cli
from jaxbert.encoder import Encoder
from jaxbert.errors import (
    CheckpointError,
    ComputationError,
    DeviceMemoryError,
    InputError,
    InputTypeError,
)
from jaxbert.inference import memory
from jaxbert.model import reference
from jaxbert.model.attention import dense
from tests.models import CONFIGS, GOLDEN, arrays, masked, raw_config, write_folder
from tests.tolerances import (
    BFLOAT16,
    ENCODER,
    GOLDEN_ENCODER,
    GOLDEN_REFERENCE,
    VISIBLE,
    close,
    largest,
    off,
)

BERT, JINA = GOLDEN / "bert-mlm", GOLDEN / "jinabert-mlm"
FILLED = json.loads((BERT / "fill.json").read_text())
WEIGHT, BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
WORD = "bert.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def filler():
    return MaskedLM.from_pretrained(BERT)


def plain(tensors):
    """Tensors by their names without prefix."""
    return {name.removeprefix("bert."): value for name, value in tensors.items()}


def reference_logits(tensors, raw, ids, mask, types):
    """The logits of the reference for published tensors."""
    states = reference.encode(plain(tensors), raw, ids, mask, types)
    return reference.masked_language_logits(plain(tensors), raw, states[-1])


def write(folder, name="bert-gelu", change=None, **config):
    """A folder with a masked language model whose tensors and config.json are changed."""
    tensors = masked(name)
    if change is not None:
        change(tensors)
    write_folder(folder, tensors={}, config=raw_config(CONFIGS[name]) | config)
    save_file(tensors, folder / "model.safetensors")
    return folder


def tied(tensors):
    """Store the decoder too, equal to what it is tied to."""
    tensors |= {WEIGHT: tensors[WORD].copy(), BIAS: tensors["cls.predictions.bias"].copy()}


def own(tensors):
    """Store a decoder that is not the word embeddings."""
    tied(tensors)
    tensors[WEIGHT] = tensors[WEIGHT][::-1] + np.float32(0.25)


# --- logits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [BERT, JINA], ids=lambda folder: folder.name)
def test_golden_logits(folder):
    golden, raw = (
        load_file(folder / "golden.safetensors"),
        json.loads((folder / "config.json").read_text()),
    )
    texts = [golden[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    kept, expected = texts[1].astype(bool), golden["logits"]
    theirs = reference_logits(load_file(folder / "model.safetensors"), raw, *texts)
    close(expected[kept], theirs[kept], GOLDEN_REFERENCE)
    logits = MaskedLM.from_pretrained(folder).logits(*texts)
    assert logits.dtype == jnp.float32
    close(np.asarray(logits)[kept], expected[kept], GOLDEN_ENCODER)


@pytest.mark.parametrize(
    ("name", "act"),
    [
        ("bert-gelu-tanh", "gelu_new"),
        ("bert-relu", "relu"),
        ("jinabert-geglu", "relu"),
        ("jinabert-reglu", "gelu"),
    ],
)
def test_logits_agree_with_the_reference(tmp_path, name, act):
    # A gated layer has the activation of its gate, the head that of hidden_act.
    folder = write(tmp_path, name, hidden_act=act, layer_norm_eps=0.01)
    raw = json.loads((folder / "config.json").read_text())
    ids, mask, types = arrays(3)
    theirs = reference_logits(masked(name), raw, ids, mask, types)[mask != 0]
    logits = np.asarray(MaskedLM.from_pretrained(folder).logits(ids, mask, types))[mask != 0]
    close(logits, theirs, ENCODER)
    for other in ({"hidden_act": "silu"}, {"layer_norm_eps": 1e-12}):
        states = reference.encode(plain(masked(name)), raw, ids, mask, types)
        elsewhere = reference.masked_language_logits(plain(masked(name)), raw | other, states[-1])
        assert off(logits, elsewhere[mask != 0]) > VISIBLE


def test_bfloat16(tmp_path):
    golden = load_file(BERT / "golden.safetensors")
    texts = [golden[name] for name in ("input_ids", "attention_mask", "token_type_ids")]
    model = MaskedLM.from_pretrained(BERT, dtype="bfloat16")
    assert model.encoder.embeddings.word[...].dtype == jnp.bfloat16
    logits, kept = model.logits(*texts), texts[1].astype(bool)
    assert logits.dtype == jnp.float32
    close(np.asarray(logits)[kept], golden["logits"][kept], BFLOAT16)
    assert off(np.asarray(logits)[kept], golden["logits"][kept]) > GOLDEN_ENCODER


def test_padding_does_not_matter(filler):
    ids = np.array(FILLED["input_ids"][0])[None]
    alone = np.asarray(filler.logits(ids))
    wide = np.full((3, 20), 7)
    wide[1, : ids.shape[1]] = ids
    mask = np.zeros_like(wide)
    mask[1, : ids.shape[1]] = 1
    close(np.asarray(filler.logits(wide, mask))[1:2, : ids.shape[1]], alone, ENCODER)
    seen = np.asarray(filler.logits(wide))[1:2, : ids.shape[1]]
    assert off(seen, alone) > VISIBLE  # without the mask it would matter


def test_logits_are_those_of_a_subclass_forward(filler):
    class Shifted(Encoder):
        def forward(self, inputs):
            return super().forward(inputs) * jnp.float32(2)

    other = copy.copy(filler.encoder)
    other.__class__ = Shifted
    model = MaskedLM(other, filler.head, filler.tokenizer)
    ids = FILLED["input_ids"][:1]
    expected = filler.head(
        filler.encoder(ids) * jnp.float32(2), filler.encoder.embeddings.word[...]
    )
    close(model.logits(ids), expected, ENCODER)
    assert off(model.logits(ids), filler.logits(ids)) > VISIBLE


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (([[101]],), InputError, "input_ids holds 101"),
        (([[1, 2]], [[1, 2]]), InputError, "attention_mask holds 2"),
        (([[1, 2]], [[1]]), InputError, "attention_mask or segment_ids has shape"),
        (([[1, 2]], None, [[0, 2]]), InputError, "token_type_ids holds 2"),
        (([[0.5]],), InputTypeError, "pass integers"),
        ((np.ones((1, 65), int),), InputError, "positions for 64 only"),
    ],
)
def test_logits_of_wrong_arrays_are_refused(filler, arguments, error, reason):
    with pytest.raises(error, match=reason):
        filler.logits(*arguments)


def test_the_memory_of_the_logits_counts(filler, monkeypatch):
    ids = np.ones((8, 32), np.int32)
    encoder = filler.encoder
    bias = encoder.position.bias is not None
    states = memory.estimate(
        encoder.config, encoder.attention, encoder.embeddings.word[...].dtype, 8, 32, bias
    )
    monkeypatch.setattr(memory, "device_memory", lambda device: states + 4 * 8 * 32 * 101 - 1)
    encoder(ids)
    with pytest.raises(DeviceMemoryError, match="8 x 32 tokens need"):
        filler.logits(ids)
    monkeypatch.setattr(memory, "device_memory", lambda device: states + 4 * 8 * 32 * 101)
    filler.logits(ids)


# --- filling in --------------------------------------------------------------------------------


def alike(found, expected, bound):
    """The same candidates in the same order; a score is off by at most the bound of itself."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for own, other in zip(found, expected, strict=True):
            alike(own, other, bound)
        return
    assert {**found, "score": 0} == {**expected, "score": 0}
    close(found["score"], expected["score"], bound)


def score_bound():
    """The share of a probability by which errors of its logit, and of the sum, move it."""
    logits = load_file(BERT / "golden.safetensors")["logits"]
    return 2 * GOLDEN_ENCODER * largest(logits)


def test_fill_answers_as_transformers(filler):
    found = filler.fill(FILLED["texts"])
    alike(found, FILLED["top"], score_bound())
    for text, ids in zip(FILLED["texts"], FILLED["input_ids"], strict=True):
        np.testing.assert_array_equal(filler.ids_of(0, text), ids)


def test_fill_of_one_text_and_of_none(filler):
    alike(filler.fill(FILLED["texts"][0]), FILLED["top"][0], score_bound())
    alike(filler.fill(FILLED["texts"][2]), FILLED["top"][2], score_bound())
    alike(filler.fill(FILLED["texts"][:1]), FILLED["top"][:1], score_bound())
    assert filler.fill([]) == []


def test_neighbours_do_not_matter(filler):
    texts = [f"{'the ' * i}[MASK] people" for i in range(30)] + FILLED["texts"]
    together = filler.fill(texts, top_k=1)
    for text, found in zip(texts, together, strict=True):
        alike(filler.fill(text, top_k=1), found, score_bound())
    assert len({answers[0]["score"] for answers in together[:30]}) > 20


def test_top_k(filler):
    text = FILLED["texts"][0]
    assert [found["token"] for found in filler.fill(text, 2)] == [32, 5]
    everything = filler.fill(text, top_k=1000)
    assert sorted(found["token"] for found in everything) == list(range(101))
    close(sum(found["score"] for found in everything), 1.0, ENCODER)
    scores = [found["score"] for found in everything]
    assert scores == sorted(scores, reverse=True)
    with pytest.raises(InputError, match="top_k is 0; it must be from 1"):
        filler.fill(text, 0)
    with pytest.raises(InputTypeError, match="top_k is a float"):
        filler.fill(text, 2.5)


def test_padding_is_no_word_of_a_sequence(filler):
    for answers in filler.fill("a [MASK] [PAD] [MASK]", top_k=1000):
        (padding,) = (found for found in answers if found["token_str"] == "[PAD]")
        assert padding["sequence"] == "[CLS] a [MASK] [SEP]"
        assert not any("[PAD]" in found["sequence"] for found in answers)


def test_texts_that_cannot_be_filled_are_refused(filler):
    assert filler.max_length == 48
    with pytest.raises(InputError, match=r"text 1 has no \[MASK\]; put one"):
        filler.fill(["a [MASK]", "a b"])
    with pytest.raises(InputError, match="text 0 has 51 tokens and is cut to 48, which loses a"):
        filler.fill("the " * 48 + "[MASK]")
    with pytest.raises(InputError, match="which loses a"):
        filler.fill("[MASK] " + "the " * 48 + "[MASK]")
    with pytest.raises(InputTypeError, match="texts is a int"):
        filler.fill(3)
    with pytest.raises(InputTypeError, match="text 1 is a NoneType"):
        filler.fill(["[MASK]", None])


def test_a_text_is_cut_behind_its_masks(filler):
    (best,) = filler.fill("[MASK] " + "the " * 60, top_k=1)
    (same,) = filler.fill("[MASK] " + "the " * 45, top_k=1)
    alike(best, same, score_bound())


def test_what_is_not_finite_is_no_answer(filler):
    broken = copy.deepcopy(filler.head)
    broken.bias[...] = broken.bias[...].at[3].set(jnp.nan)
    with pytest.raises(ComputationError, match="text 0 is not finite"):
        MaskedLM(filler.encoder, broken, filler.tokenizer).fill("a [MASK]")


def test_a_mask_of_another_name(tmp_path):
    folder = shutil.copytree(BERT, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        text = (folder / name).read_text().replace("[MASK]", "<gap>")
        (folder / name).write_text(text)
    model = MaskedLM.from_pretrained(folder)
    assert model.mask_token == "<gap>"
    alike(
        model.fill(FILLED["texts"][1].replace("[MASK]", "<gap>")), FILLED["top"][1], score_bound()
    )
    with pytest.raises(InputError, match="has no <gap>"):
        model.fill("a [MASK]")


def test_a_vocabulary_alone_gives_the_same_answers(tmp_path):
    folder = shutil.copytree(BERT, tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    alike(MaskedLM.from_pretrained(folder).fill(FILLED["texts"]), FILLED["top"], score_bound())


def test_a_pickle_fills_in_the_same(filler):
    again = pickle.loads(pickle.dumps(filler))
    assert again.fill(FILLED["texts"]) == filler.fill(FILLED["texts"])


def test_the_parts_are_checked(filler):
    parts = {"encoder": filler.encoder, "head": filler.head, "tokenizer": filler.tokenizer}
    for name in parts:
        with pytest.raises(InputTypeError, match=f"{name} is a str; pass a"):
            MaskedLM(**parts | {name: "other"})
    with pytest.raises(InputError, match="mask_token is '<none>', which is no token"):
        MaskedLM(**parts, mask_token="<none>")
    with pytest.raises(InputError, match="max_length is 65; it must be from 1 to 64"):
        MaskedLM(**parts, max_length=65)
    assert MaskedLM(**parts).max_length == 64


def test_arguments_reach_the_encoder():
    assert MaskedLM.from_pretrained(BERT, attention=dense).encoder.attention is dense
    assert MaskedLM.from_pretrained(BERT).encoder.attention is not dense
    with pytest.raises(InputError, match="dtype is float16"):
        MaskedLM.from_pretrained(BERT, dtype="float16")


def test_files_of_sentence_transformers_change_nothing(tmp_path, filler):
    # The fill-mask pipeline does not read them; sparse encoders have a task of their own there.
    folder = shutil.copytree(BERT, tmp_path / "model")
    settings = {"max_seq_length": 7, "do_lower_case": True, "transformer_task": "fill-mask"}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    model = MaskedLM.from_pretrained(folder)
    assert model.max_length == filler.max_length
    assert model.fill(FILLED["texts"]) == filler.fill(FILLED["texts"])


def test_a_key_that_is_not_understood_may_be_passed_over(tmp_path):
    folder = shutil.copytree(JINA, tmp_path / "model")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"new_key": 1}))
    with pytest.raises(CheckpointError, match="new_key"):
        MaskedLM.from_pretrained(folder)
    assert MaskedLM.from_pretrained(folder, ignore_config=("new_key",)).max_length == 48


# --- folders -----------------------------------------------------------------------------------


def test_a_stored_decoder_that_is_tied_changes_nothing(tmp_path):
    ids, mask, types = arrays(5)
    without, both = (
        MaskedLM.from_pretrained(write(tmp_path / name, change=change)).logits(ids, mask, types)
        for name, change in (("without", None), ("both", tied))
    )
    np.testing.assert_array_equal(np.asarray(without), np.asarray(both))


def test_a_decoder_of_its_own(tmp_path):
    folder = write(tmp_path, change=own, tie_word_embeddings=False)
    ids, mask, types = arrays(5)
    tensors = load_file(folder / "model.safetensors")
    logits = np.asarray(MaskedLM.from_pretrained(folder).logits(ids, mask, types))
    theirs = reference_logits(tensors, raw_config(CONFIGS["bert-gelu"]), ids, mask, types)
    close(logits[mask != 0], theirs[mask != 0], ENCODER)
    del tensors[WEIGHT]
    others = reference_logits(tensors, raw_config(CONFIGS["bert-gelu"]), ids, mask, types)
    assert off(logits[mask != 0], others[mask != 0]) > VISIBLE


def without(*names):
    """A change that removes tensors."""
    return lambda tensors: [tensors.pop(name) for name in names]


def moved(name):
    """A change that stores the decoder, and moves one number of one of its tensors by a digit."""

    def change(tensors):
        tied(tensors)
        first = tensors[name].reshape(-1)[:1]
        tensors[name].reshape(-1)[:1] = np.nextafter(first, np.float32(np.inf))

    return change


def also(**more):
    """A change that adds tensors; __ stands for a dot."""
    return lambda tensors: tensors.update(
        {name.replace("__", "."): value for name, value in more.items()}
    )


ONES = np.ones((15, 15), np.float32)


@pytest.mark.parametrize(
    ("change", "config", "reason"),
    [
        (moved(WEIGHT), {}, f"{WEIGHT} differs from {WORD}; set .tie_word_embeddings.: false"),
        (moved(BIAS), {}, f"{BIAS} differs from cls.predictions.bias; they are one weight"),
        (moved(BIAS), {"tie_word_embeddings": False}, f"{BIAS} differs from cls.predictions.bias"),
        (None, {"tie_word_embeddings": False}, f"lacks {WEIGHT}, {BIAS}, which tie_word"),
        (also(**{WEIGHT: np.ones((31, 15), np.float32)}), {"tie_word_embeddings": False}, BIAS),
        (also(**{BIAS: np.ones(31, np.float32)}), {}, f"{BIAS} differs"),
        (also(**{WEIGHT: ONES}), {}, f"{WEIGHT} differs"),
        (None, {"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no'"),
        (without("cls.predictions.bias"), {}, "lacks cls.predictions.bias; fetch"),
        (
            without("cls.predictions.transform.LayerNorm.weight"),
            {},
            "lacks cls.predictions.transform.LayerNorm.weight",
        ),
        (
            also(cls__predictions__bias=np.ones(30, np.float32)),
            {},
            r"cls.predictions.bias has shape \(30,\)",
        ),
        (
            also(cls__predictions__transform__dense__weight=np.full((15, 15), np.nan, np.float32)),
            {},
            "cls.predictions.transform.dense.weight holds NaN",
        ),
        (
            also(cls__predictions__transform__dense__bias=np.ones(15, np.int32)),
            {},
            "cls.predictions.transform.dense.bias is stored as I32",
        ),
        (also(cls__predictions__more=ONES), {}, "has cls.predictions.more, which"),
        (also(classifier__weight=ONES), {}, "is a classifier .*, so MaskedLM does not open it"),
    ],
)
def test_a_head_that_is_not_understood_is_refused(tmp_path, change, config, reason):
    folder = write(tmp_path, change=change, **config)
    with pytest.raises(CheckpointError, match=reason):
        MaskedLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("heads", "face"),
    [
        ({}, "Encoder"),
        ({"classifier.weight": ONES, "bert.pooler.dense.weight": ONES}, "CrossEncoder"),
        ({"qa_outputs.weight": ONES}, "Encoder"),
        ({"cls.seq_relationship.weight": ONES[:2]}, "Encoder"),
    ],
)
def test_a_folder_without_the_head_is_refused(tmp_path, heads, face):
    def change(tensors):
        without(*[name for name in tensors if name.startswith("cls.")])(tensors)
        tensors |= heads

    folder = write(tmp_path, change=change)
    with pytest.raises(CheckpointError, match=f"MaskedLM does not open it; open it with {face}, "):
        MaskedLM.from_pretrained(folder)


def test_pooler_and_next_sentence_head_are_left_aside(tmp_path):
    extra = {
        "bert.pooler.dense.weight": ONES,
        "bert.pooler.dense.bias": ONES[0],
        "cls.seq_relationship.weight": ONES[:2],
        "cls.seq_relationship.bias": ONES[0, :2],
    }
    folder = write(tmp_path, change=lambda tensors: tensors.update(extra))
    model = MaskedLM.from_pretrained(folder)
    names = sorted(name.removeprefix("bert.") for name in extra)
    assert sorted(model.left_aside) == names
    ids, mask, types = arrays(5)
    bare = MaskedLM.from_pretrained(write(tmp_path / "bare"))
    assert bare.left_aside == ()
    np.testing.assert_array_equal(model.logits(ids, mask, types), bare.logits(ids, mask, types))


def test_old_spellings_are_read(tmp_path):
    def change(tensors):
        for name in list(tensors):
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    ids, mask, types = arrays(5)
    found = MaskedLM.from_pretrained(write(tmp_path / "old", change=change))
    expected = MaskedLM.from_pretrained(write(tmp_path / "new"))
    np.testing.assert_array_equal(found.logits(ids, mask, types), expected.logits(ids, mask, types))


# --- the command -------------------------------------------------------------------------------


def test_the_command_prints_scores_and_texts(capsys):
    assert cli.main(["fill", FILLED["texts"][0], "--model", str(BERT), "--top-k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "0.6272  the city ofb is in the river.",
        "0.1037  the city of a is in the river.",
    ]
    assert cli.main(["fill", FILLED["texts"][2], "--model", str(BERT), "--top-k", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "0.8470  [CLS] how manyb [MASK]? [SEP]",
        "",
        "0.6345  [CLS] how many [MASK]b? [SEP]",
    ]


def test_the_command_has_no_default_model(capsys):
    assert cli.main(["fill", "a [MASK]"]) == 1
    assert "fill has no default model" in capsys.readouterr().err
    assert cli.main(["fill", "a b", "--model", str(BERT)]) == 1
    assert capsys.readouterr().err.startswith("jaxbert: text 0 has no [MASK]")
