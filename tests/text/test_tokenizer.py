"""Text to ids: truncation, padding, Unicode, and folders without tokenizer.json."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tokenizers import normalizers, pre_tokenizers, processors

from jaxbert.errors import CheckpointError, InputError, InputTypeError
from jaxbert.text.tokenizer import HELD, Tokenizer
from tests.models import GOLDEN, WORDS, word_tokenizer, write_folder

CLS, SEP, UNK = 2, 3, 1


@pytest.fixture
def letters():
    return Tokenizer(word_tokenizer(), "right")


def test_ids_with_special_tokens(letters):
    (ids,) = letters(["a c"])
    np.testing.assert_array_equal(ids, [CLS, 5, 7, SEP])
    assert ids.dtype == np.int32


def test_stored_truncation_and_padding_are_taken_off(minilm):
    stored = json.loads((minilm / "tokenizer.json").read_text())
    assert stored["truncation"]["max_length"] == stored["padding"]["strategy"]["Fixed"] == 128
    short, long = Tokenizer.from_folder(minilm)(["one", "word " * 300])
    assert (len(short), len(long)) == (3, 302)


def test_truncation_keeps_the_special_tokens(letters):
    (ids,) = letters(["a b c d e"], 4)
    np.testing.assert_array_equal(ids, [CLS, 5, 6, SEP])
    (again,) = letters(["a b c d e"])  # and does not stay
    assert len(again) == 7


def test_no_room_beside_the_special_tokens(letters):
    with pytest.raises(InputError, match="leaves no room beside 2 special tokens"):
        letters(["a"], 2)


def test_empty_text_and_no_text(letters):
    np.testing.assert_array_equal(letters([""])[0], [CLS, SEP])
    assert letters([]) == []


class Watched:
    """A tokenizer of the library that notes the characters it encodes with Python's lock held."""

    def __init__(self, backend):
        self.backend, self.held = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def encode(self, text):
        self.held.append(len(text))
        return self.backend.encode(text)


@pytest.mark.parametrize("on_cut", [None, lambda i, tokens: None])
def test_a_long_text_does_not_stop_other_threads(letters, on_cut):
    text = "a b " * 20_000
    expected = letters([text, "a"], 41)[0]
    letters.backend = watched = Watched(letters.backend)
    for most in (41, None):
        (ids,) = letters([text], most, on_cut)
        assert len(ids) == (most or 40_002)
        np.testing.assert_array_equal(ids[:40], expected[:40])
    letters(["a b"], 41, on_cut)
    assert 3 in watched.held
    assert max(watched.held) <= HELD


def test_the_length_of_a_prompt(letters):
    assert letters.prompt_length("a b ") == 3  # [CLS] a b, without [SEP]
    assert letters.prompt_length("a b c d e f", 5) == 4  # cut to [CLS] a b c [SEP]


def test_the_side_of_truncation_is_the_folders(tmp_path):
    folder = write_folder(tmp_path, tokenizer_config={"truncation_side": "left"})
    (ids,) = Tokenizer.from_folder(folder)(["a b c d e"], 4)
    np.testing.assert_array_equal(ids, [CLS, 8, 9, SEP])


CONTRADICTIONS = {
    "do_lower_case": {"do_lower_case": False},
    "strip_accents": {"strip_accents": False},
    "tokenize_chinese_chars": {"tokenize_chinese_chars": False},
}


@pytest.mark.parametrize("key", CONTRADICTIONS)
def test_refuses_files_that_contradict_each_other(key, tmp_path):
    folder = write_folder(tmp_path, tokenizer_config=CONTRADICTIONS[key])
    with pytest.raises(CheckpointError, match=rf'has {key} = False.*ignore_config=\("{key}",\)'):
        Tokenizer.from_folder(folder)
    Tokenizer.from_folder(folder, ignore_config=(key,))


def test_an_absent_key_means_what_transformers_takes_it_for(tmp_path):
    backend = word_tokenizer()
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    folder = write_folder(tmp_path, tokenizer_config={"tokenizer_class": "BertTokenizer"})
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="do_lower_case = True"):
        Tokenizer.from_folder(folder)


def without_normalizer(backend):
    backend.normalizer = None


def without_special_tokens(backend):
    backend.post_processor = processors.Sequence([])


@pytest.mark.parametrize("strip", [without_normalizer, without_special_tokens])
def test_a_tokenizer_that_is_not_what_transformers_would_build(strip, tmp_path):
    backend = word_tokenizer()
    strip(backend)
    folder = write_folder(tmp_path)
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="not the BertTokenizer"):
        Tokenizer.from_folder(folder)
    Tokenizer.from_folder(folder, ignore_config=("tokenizer_class",))


@pytest.mark.parametrize(
    ("settings", "added", "sentence"),
    [
        ({"tokenizer_class": "BertJapaneseTokenizer"}, {}, "wants a BertJapaneseTokenizer"),
        ({}, {"[X]": 31}, "added_tokens.json but no tokenizer.json"),
    ],
)
def test_vocab_txt_alone_must_be_plain_bert(settings, added, sentence, tmp_path):
    folder = write_folder(tmp_path, tokenizer_config=settings, added_tokens=added)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    with pytest.raises(CheckpointError, match=sentence):
        Tokenizer.from_folder(folder)


def test_vocab_txt_of_a_distilbert_is_that_of_a_bert(tmp_path):
    ids = []
    for kind in ("BertTokenizer", "DistilBertTokenizer", "DistilBertTokenizerFast"):
        folder = write_folder(tmp_path / kind, tokenizer_config={"tokenizer_class": kind})
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        ids.append([row.tolist() for row in Tokenizer.from_folder(folder)(["The cat!", ""])])
    assert ids[0] == ids[1] == ids[2]
    assert len(ids[0][0]) > 2


def test_threads_do_not_share_a_length(letters):
    def lengths(most):
        return {len(letters(["a " * 40], most)[0]) for _ in range(300)}

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lengths, (5, 9, 30))) == [{5}, {9}, {30}]


def test_byte_level_tokenizers_are_compared_too(tmp_path):
    backend = word_tokenizer()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    settings = {"add_prefix_space": False, "tokenizer_class": "PreTrainedTokenizerFast"}
    folder = write_folder(tmp_path, tokenizer_config=settings)
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match="add_prefix_space = False"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize("wrong", [3, None, b"a", ["a"]])
def test_refuses_what_is_no_text(letters, wrong):
    with pytest.raises(InputTypeError, match="text 1 is a"):
        letters(["a", wrong])


def test_refuses_a_lone_surrogate_by_its_place(letters):
    with pytest.raises(InputError, match="text 1 has a lone surrogate at character 2"):
        letters(["a", "b \ud800 c"])


def test_nul_and_long_texts_are_texts(letters):
    nul, long = letters(["a\x00b", "a" * 100_000], 11)
    assert len(nul) == 3
    assert len(long) <= 11


def test_lower_case_is_put_in_front_where_it_is_missing(tmp_path):
    backend = word_tokenizer()
    backend.normalizer = None
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    folder = write_folder(tmp_path, tokenizer_config=settings)
    backend.save(str(folder / "tokenizer.json"))
    upper = Tokenizer.from_folder(folder)(["A"])[0]
    lower = Tokenizer.from_folder(folder, lower_case=True)(["A"])[0]
    np.testing.assert_array_equal(upper, [CLS, UNK, SEP])
    np.testing.assert_array_equal(lower, [CLS, 5, SEP])


def test_vocab_txt_gives_the_same_ids_as_tokenizer_json(minilm, tmp_path):
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(minilm / name, tmp_path)
    texts = json.loads((GOLDEN / "minilm" / "texts.json").read_text(encoding="utf-8"))
    ours, theirs = Tokenizer.from_folder(tmp_path)(texts), Tokenizer.from_folder(minilm)(texts)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "is no tokenizer"),
        ('{"model": 3}', "is no tokenizer"),
        ('{"model": {"vocab": {"a": 0}}, "added_tokens": [3]}', "is no tokenizer"),
        ('{"model": {"vocab": {"a": 0}}, "post_processor": {"special_tokens": 3}}', "no tokenizer"),
    ],
)
def test_a_tokenizer_json_that_is_none(contents, reason, tmp_path):
    (tmp_path / "tokenizer.json").write_text(contents)
    with pytest.raises(CheckpointError, match=rf"tokenizer\.json.*{reason}"):
        Tokenizer.from_folder(tmp_path)


def test_a_folder_without_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match="neither"):
        Tokenizer.from_folder(tmp_path)
