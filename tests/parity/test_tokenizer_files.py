"""Folders whose files tell different things: as transformers reads them, or refused."""

import json

import numpy as np
import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer

from jaxbert.errors import CheckpointError
from jaxbert.text.tokenizer import Tokenizer
from tests.models import CONFIGS, WORDS, raw_config, word_tokenizer
from tests.tokenizers_of import byte_level, unigram, wordpiece

pytestmark = pytest.mark.torch

TEXTS = [
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "abc [MASK] de",
    "[SEP]",
    "[CLS] a[SEP]b </s> <s>x",
    "a  z Z é 漢字 😀 ",
    "xyz foo bar y",
    "",
    " ",
]
DECODER = {
    str(i): {
        "content": word,
        "special": True,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    for i, word in enumerate(WORDS[:5])
}
BERT, PLAIN = {"tokenizer_class": "BertTokenizer"}, {"tokenizer_class": "PreTrainedTokenizerFast"}


def cut(direction):
    return {"max_length": 9, "stride": 2, "strategy": "OnlyFirst", "direction": direction}


def pad(direction):
    return {
        "strategy": {"Fixed": 11},
        "direction": direction,
        "pad_to_multiple_of": 8,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }


def added(word, i, **flags):
    base = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": i, "content": word, "special": True, **base, **flags}


# name -> what is put into tokenizer.json, tokenizer_config.json and the other files.
FOLDERS = {
    "nothing beside it": ({}, None, {}),
    "bert": ({}, BERT, {}),
    "plain": ({}, PLAIN, {}),
    "cut on the left": ({"truncation": cut("Left")}, PLAIN, {}),
    "cut on the left, bert": ({"truncation": cut("Left")}, BERT, {}),
    "cut on the left, no class": ({"truncation": cut("Left")}, {}, {}),
    "cut on the right by name": (
        {"truncation": cut("Left")},
        PLAIN | {"truncation_side": "right"},
        {},
    ),
    "cut on the left by name": (
        {"truncation": cut("Right")},
        BERT | {"truncation_side": "left"},
        {},
    ),
    "padding right": ({"padding": pad("Right")}, PLAIN, {}),
    "padding left": ({"padding": pad("Left")}, PLAIN, {}),
    "padding left by name": ({}, BERT | {"padding_side": "left"}, {}),
    "a mask": ({}, PLAIN | {"mask_token": "[MASK]"}, {}),
    "a mask with flags": (
        {},
        PLAIN | {"mask_token": {"content": "[MASK]", "lstrip": True, "__type": "AddedToken"}},
        {},
    ),
    "a letter as a mask": ({}, PLAIN | {"mask_token": "z"}, {}),
    "a mask of the map": ({}, PLAIN, {"special_tokens_map": {"mask_token": "z"}}),
    "the map goes first": (
        {},
        PLAIN | {"mask_token": "y"},
        {"special_tokens_map": {"mask_token": "z"}},
    ),
    "the map is not read": (
        {},
        PLAIN | {"added_tokens_decoder": DECODER},
        {"special_tokens_map": {"mask_token": "z"}},
    ),
    "another start": ({}, BERT | {"cls_token": "a"}, {}),
    "another start, plain": ({}, PLAIN | {"cls_token": "a"}, {}),
    "another end of the map": ({}, BERT, {"special_tokens_map": {"sep_token": "b"}}),
    "another unknown": ({}, BERT | {"unk_token": "a"}, {}),
    "further ones": ({}, PLAIN | {"additional_special_tokens": ["x", "z"]}, {}),
    "further ones by name": ({}, PLAIN | {"extra_special_tokens": {"image_token": "x"}}, {}),
    "one of its own": ({}, PLAIN | {"image_token": "x"}, {}),
    "listed": ({}, PLAIN | {"added_tokens_decoder": DECODER}, {}),
    "listed, bert": ({}, BERT | {"added_tokens_decoder": DECODER}, {}),
    "listed with flags": (
        {"added_tokens": [added("x", WORDS.index("x"))]},
        PLAIN
        | {
            "added_tokens_decoder": {
                str(WORDS.index("x")): {"content": "x", "lstrip": True, "rstrip": True}
            }
        },
        {},
    ),
    "stored and not listed": (
        {"added_tokens": [added("x", WORDS.index("x"))]},
        BERT | {"added_tokens_decoder": DECODER},
        {},
    ),
    "stored and not listed, plain": (
        {"added_tokens": [added("x", WORDS.index("x"))]},
        PLAIN | {"added_tokens_decoder": DECODER},
        {},
    ),
    "stored": ({"added_tokens": [added("x", WORDS.index("x"), lstrip=True)]}, BERT, {}),
    "listed by another number": ({}, PLAIN | {"added_tokens_decoder": {"7": {"content": "x"}}}, {}),
    "added": ({}, PLAIN, {"added_tokens": {"x": WORDS.index("x")}}),
    "added, bert": ({}, BERT, {"added_tokens": {"x": WORDS.index("x")}}),
    "added new": ({}, PLAIN, {"added_tokens": {"foo bar": len(WORDS)}}),
    "split": ({}, BERT | {"split_special_tokens": True}, {}),
    "bos": ({}, PLAIN | {"bos_token": "a", "add_bos_token": True}, {}),
    "no post-processor": ({"post_processor": None}, PLAIN, {}),
    "no post-processor, bos": (
        {"post_processor": None},
        PLAIN | {"bos_token": "a", "add_bos_token": True},
        {},
    ),
    "cased": ({}, BERT | {"do_lower_case": False}, {}),
    "accents": ({}, BERT | {"strip_accents": False}, {}),
    "without a cleaner": (
        {
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": False,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            }
        },
        BERT,
        {},
    ),
}


def write(folder, backend, put=None, settings=None, files=None):
    raw = {**json.loads(backend.to_str()), **(put or {})}
    (folder / "config.json").write_text(json.dumps(raw_config(CONFIGS["bert-gelu"])))
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    for name, contents in {"tokenizer_config": settings, **(files or {})}.items():
        if contents is not None:
            (folder / f"{name}.json").write_text(json.dumps(contents))
    return folder


def both(folder, text, most):
    theirs = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=most)
    return Tokenizer.from_folder(folder)([text], most)[0], theirs["input_ids"]


@pytest.mark.parametrize("name", FOLDERS)
def test_as_transformers_or_refused(name, tmp_path):
    folder = write(tmp_path, word_tokenizer(), *FOLDERS[name])
    if name in REFUSED:
        with pytest.raises(CheckpointError):
            Tokenizer.from_folder(folder)
        return
    for text in TEXTS:
        for most in (9, 100):
            np.testing.assert_array_equal(*both(folder, text, most), err_msg=text)


REFUSED = {
    "padding left",
    "padding left by name",
    "another start",
    "another end of the map",
    "another unknown",
    "stored and not listed",
    "listed by another number",
    "added new",
    "cased",
    "accents",
    "without a cleaner",
}


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (wordpiece, BERT),
        (wordpiece, PLAIN),
        (byte_level, PLAIN | {"bos_token": "<s>", "mask_token": "<unk>"}),
        (unigram, PLAIN | {"cls_token": "<s>", "sep_token": "</s>"}),
    ],
)
def test_kinds_of_tokenizers(make, settings, tmp_path):
    folder = write(tmp_path, make(), None, settings)
    for text in TEXTS:
        np.testing.assert_array_equal(*both(folder, text, 9), err_msg=text)


def test_a_vocabulary_alone(tmp_path):
    folder = write(tmp_path, word_tokenizer(), None, BERT)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    for text in TEXTS:
        np.testing.assert_array_equal(*both(folder, text, 9), err_msg=text)
