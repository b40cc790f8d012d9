"""Tokenizer files that fail later, or tell different things: refused when the folder is opened."""

import base64
import json

import numpy as np
import pytest
from tokenizers import models

from jaxbert import Embedder
from jaxbert.errors import CheckpointError, InputError, JaxbertError, TextError
from jaxbert.text.panics import caught
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.text.tokenizer_json import nested
from tests.models import SIZES, WORDS, word_tokenizer, write_folder
from tests.tokenizers_of import KINDS, byte_level, wordpiece

VOCAB_SIZE = SIZES["vocab_size"]
PLAIN = {"tokenizer_class": "PreTrainedTokenizerFast"}


def edited(folder, change, settings=PLAIN, backend=None, **files):
    """A folder whose tokenizer.json is changed by a function of its contents."""
    folder.mkdir(exist_ok=True)
    raw = json.loads((backend or word_tokenizer()).to_str())
    change(raw)
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    for name, contents in {"tokenizer_config": settings, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(contents))
    return folder


def opened(folder, **options):
    return Tokenizer.from_folder(folder, vocab_size=VOCAB_SIZE, **options)


def template(*parts, special=(), kind=0):
    return {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": part, "type_id": kind}} for part in parts],
        "pair": [{"Sequence": {"id": part, "type_id": 0}} for part in "AB"],
        "special_tokens": dict(special),
    }


def put(path, value):
    """A change that sets raw[path[0]][path[1]] ..."""

    def change(raw):
        for key in path[:-1]:
            raw = raw[key]
        raw[path[-1]] = value

    return change


def regex(expression):
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    }


def bpe(**settings):
    words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 5, "aa": 6}
    return {"type": "BPE", "vocab": words, "merges": ["a a"], "unk_token": "[UNK]", **settings}


UNIGRAM = {"type": "Unigram", "vocab": [[word, -1.0] for word in WORDS[:5]]}
TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
REFUSED = {
    "a template without the text": (put(["post_processor"], template("B")), "it must be one, A"),
    "a template with the text twice": (put(["post_processor"], template(*"AA")), "one, A"),
    "a template with no text": (put(["post_processor"], template()), "it must be one, A"),
    "a normaliser without its table": (
        put(["normalizer"], {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "Precompiled table of 3 bytes",
    ),
    "pieces of no length": (
        put(["pre_tokenizer"], {"type": "FixedLength", "length": 0}),
        "pieces of length 0",
    ),
    "an expression without end": (put(["pre_tokenizer"], regex("(a+)+$")), "without bound"),
    "one deep inside": (
        put(["pre_tokenizer"], {"type": "Sequence", "pretokenizers": [regex(r"((?:\w*)-)*x")]}),
        "without bound",
    ),
    "one in the normaliser": (
        put(["normalizer"], {**regex("(.*a){9,}"), "type": "Replace", "content": ""}),
        "without bound",
    ),
    "an expression that is none": (put(["pre_tokenizer"], regex("(")), "is no tokenizer"),
    "an unknown token that is unknown": (put(["model", "unk_token"], "[XX]"), "unk_token = '.XX"),
    "no unknown token": (lambda raw: raw["model"]["vocab"].pop("[UNK]"), "not in its vocab"),
    "a BPE with none": (put(["model"], bpe(unk_token="[XX]")), "not in its vocab"),
    "a Unigram with none": (put(["model"], UNIGRAM), "names no unk_id"),
    "a Unigram with one beyond": (put(["model"], UNIGRAM | {"unk_id": 5}), "unk_id|no tokenizer"),
    "words with none": (
        put(["model"], {"type": "WordLevel", "vocab": {"[CLS]": 2, "[SEP]": 3}, "unk_token": "a"}),
        "not in its vocab",
    ),
    "merges that do not fit": (put(["model"], bpe(merges=["a b"])), "is no tokenizer"),
    "dropout": (put(["model"], bpe(dropout=0.5)), r'pass ignore_config=\("dropout",\)'),
    "sampling": (put(["model"], UNIGRAM | {"unk_id": 0, "alpha": 0.1}), "alpha = 0.1"),
    "an id of 32 bits": (put(["model", "vocab", "z"], 2**32 - 1), "no id of a token"),
    "an id of 31 bits": (put(["model", "vocab", "z"], 2**31 - 1), "no id of a token"),
    "an id below 0": (put(["model", "vocab", "z"], -1), "no id of a token"),
    "an id of a float": (put(["model", "vocab", "z"], 3.0), "no id of a token"),
    "an id of a truth": (put(["model", "vocab", "z"], True), "no id of a token"),
    "an id beyond the model": (put(["model", "vocab", "z"], VOCAB_SIZE), "has 31 tokens"),
    "an added one": (
        put(["added_tokens"], [{**TOKEN, "id": VOCAB_SIZE, "content": "[N]", "special": True}]),
        r'"added_tokens",',
    ),
    "one around the text": (
        put(["post_processor", "sep"], ["[SEP]", VOCAB_SIZE]),
        "in post_processor the id 31",
    ),
    "a huge one around the text": (
        put(
            ["post_processor"],
            {
                "type": "Sequence",
                "processors": [
                    template(
                        "A",
                        special={"[X]": {"id": "[X]", "ids": [2**30], "tokens": ["[X]"]}}.items(),
                    )
                ],
            },
        ),
        "no id of a token",
    ),
    "another one around the text": (
        put(["post_processor", "sep"], ["[SEP]", 7]),
        "'.SEP.' around each text with the id 7, but its vocabulary says 3",
    ),
    "an unknown word around the text": (
        put(["post_processor", "sep"], ["[X]", 3]),
        "has no such token",
    ),
    "a vocabulary of numbers": (put(["model", "vocab"], [1, 2]), "is no tokenizer"),
    "an empty vocabulary": (put(["model", "vocab"], {}), "no model with a vocab"),
    "a type of text": (
        put(
            ["post_processor"],
            {**template("A"), "single": [{"Sequence": {"id": "A", "type_id": 1}}]},
        ),
        "token type",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_fails_later_is_refused_when_the_folder_is_opened(name, tmp_path):
    change, reason = REFUSED[name]
    with pytest.raises(CheckpointError, match=reason):
        opened(edited(tmp_path, change))


def test_dropout_can_be_taken_away(tmp_path):
    folder = edited(tmp_path, put(["model"], bpe(dropout=0.5)))
    tokenizer = opened(folder, ignore_config=("dropout",))
    ids = {tuple(tokenizer(["a" * 12])[0]) for _ in range(20)}
    assert ids == {(2, *[6] * 6, 3)}
    opened(edited(tmp_path, put(["model"], bpe(dropout=0.0))))


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizers_of_every_kind_are_taken(kind, tmp_path):
    backend = KINDS[kind]()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(PLAIN))
    text = "abc de [SEP] 😀 é"
    (ids,) = Tokenizer.from_folder(tmp_path, vocab_size=backend.get_vocab_size())([text])
    np.testing.assert_array_equal(ids, backend.encode(text).ids)


def test_a_byte_level_tokenizer_needs_no_unknown_token(tmp_path):
    change = put(["model", "unk_token"], "<none>")
    edited(tmp_path, change, backend=byte_level())
    Tokenizer.from_folder(tmp_path)

    def without_a_byte(raw):
        change(raw)
        raw["model"]["vocab"].pop("q")

    with pytest.raises(CheckpointError, match="not in its vocab"):
        Tokenizer.from_folder(edited(tmp_path, without_a_byte, backend=byte_level()))


def test_tokens_beyond_the_model_can_be_let_pass(tmp_path):
    change, _ = REFUSED["an added one"]
    folder = write_folder(tmp_path, tokenizer_config=PLAIN)
    edited(folder, change)
    embedder = Embedder.from_pretrained(folder, ignore_config=("added_tokens",))
    assert embedder.encode(["a b"]).shape == (1, 15)
    with pytest.raises(InputError, match="id 31"):
        embedder.encode(["a [N]"])
    with pytest.raises(CheckpointError, match="has 31 tokens"):
        Embedder.from_pretrained(folder)


@pytest.mark.parametrize("kind", [0, 1])
def test_stored_padding_costs_nothing_and_says_nothing(kind, tmp_path):
    padding = {
        "strategy": {"Fixed": 2**40},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": kind,
        "pad_token": "[PAD]",
    }
    folder = edited(tmp_path, put(["padding"], padding))
    assert len(opened(folder)(["a"])[0]) == 3


# --- sides -------------------------------------------------------------------------------------


def cut(direction):
    return {"max_length": 17, "stride": 0, "strategy": "LongestFirst", "direction": direction}


@pytest.mark.parametrize(
    ("stored", "said", "side"),
    [
        (None, {}, "right"),
        ("Left", {}, "left"),
        ("Right", {}, "right"),
        ("Left", {"truncation_side": "right"}, "right"),
        ("Right", {"truncation_side": "left"}, "left"),
        (None, {"truncation_side": "left"}, "left"),
    ],
)
def test_texts_are_cut_on_the_side_that_the_files_name(stored, said, side, tmp_path):
    change = put(["truncation"], stored and cut(stored))
    assert opened(edited(tmp_path, change, PLAIN | said)).side == side


@pytest.mark.parametrize("said", [None, "Left", "both", 3])
@pytest.mark.parametrize("key", ["truncation_side", "padding_side"])
def test_a_side_that_is_none(key, said, tmp_path):
    with pytest.raises(CheckpointError, match=f"{key} = .*must be left or right"):
        opened(edited(tmp_path, lambda raw: None, PLAIN | {key: said}))


def test_padding_on_the_left_moves_positions(tmp_path):
    folder = edited(tmp_path, lambda raw: None, PLAIN | {"padding_side": "left"})
    with pytest.raises(CheckpointError, match=r'pass ignore_config=\("padding_side",\)'):
        opened(folder)
    opened(folder, ignore_config=("padding_side",))


# --- special tokens ----------------------------------------------------------------------------

BERT = {"tokenizer_class": "BertTokenizer"}
DECODER = {str(i): {"content": word, "special": True} for i, word in enumerate(WORDS[:5])}


def test_special_tokens_of_the_other_files_are_found_in_texts(tmp_path):
    folder = edited(tmp_path, lambda raw: None, BERT)
    np.testing.assert_array_equal(opened(folder)(["a [MASK] b"])[0], [2, 5, 4, 6, 3])
    folder = edited(tmp_path, lambda raw: None, PLAIN)
    np.testing.assert_array_equal(opened(folder)(["[MASK]"])[0], [2, 1, 1, 1, 3])
    folder = edited(tmp_path, lambda raw: None, PLAIN | {"mask_token": "z"})
    np.testing.assert_array_equal(opened(folder)(["az"])[0], [2, 5, 30, 3])
    folder = edited(tmp_path, lambda raw: None, PLAIN, special_tokens_map={"sep_token": "z"})
    np.testing.assert_array_equal(opened(folder)(["az"])[0], [2, 5, 30, 3])
    (tmp_path / "special_tokens_map.json").unlink()
    folder = edited(tmp_path, lambda raw: None, BERT | {"split_special_tokens": True})
    np.testing.assert_array_equal(opened(folder)(["[MASK]"])[0], [2, 1, 1, 1, 3])


CONTRADICTIONS = {
    "another start": (BERT | {"cls_token": "a"}, {}, "not the BertTokenizer"),
    "another end": (BERT, {"special_tokens_map": {"sep_token": "a"}}, "not the BertTokenizer"),
    "another unknown": (BERT | {"unk_token": "a"}, {}, "not the BertTokenizer"),
    "a word that is not there": (PLAIN | {"mask_token": "[M]"}, {}, "names mask_token = '.M.'"),
    "no word": (PLAIN | {"mask_token": ["a"]}, {}, "which is no word"),
    "a number of its own": (
        PLAIN | {"added_tokens_decoder": {"9": {"content": "a"}}},
        {},
        "added_tokens_decoder = 'a: 9' where tokenizer.json has 5",
    ),
    "a new one": (PLAIN, {"added_tokens": {"[N]": 31}}, r"added_tokens_decoder = '\[N\]: 31'"),
    "a list": (PLAIN | {"added_tokens_decoder": []}, {}, "which is no JSON object"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_special_tokens_that_the_files_tell_differently(name, tmp_path):
    settings, files, reason = CONTRADICTIONS[name]
    with pytest.raises(CheckpointError, match=reason):
        opened(edited(tmp_path, lambda raw: None, settings, **files))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["normalizer", "clean_text"], False),
        (["pre_tokenizer"], {"type": "WhitespaceSplit"}),
        (["model", "max_input_chars_per_word"], 7),
        (["model", "continuing_subword_prefix"], "@@"),
    ],
)
def test_steps_that_a_bert_tokenizer_has_not(path, value, tmp_path):
    folder = edited(tmp_path, put(path, value), BERT)
    with pytest.raises(CheckpointError, match="not the BertTokenizer"):
        opened(folder)
    opened(folder, ignore_config=("tokenizer_class",))


def test_an_added_token_that_the_settings_leave_out(tmp_path):
    added = [{**TOKEN, "id": 9, "content": "e", "special": True}]
    folder = edited(
        tmp_path, put(["added_tokens"], added), BERT | {"added_tokens_decoder": DECODER}
    )
    with pytest.raises(CheckpointError, match=r"added_tokens_decoder = None where .* has 'e'"):
        opened(folder)
    opened(edited(tmp_path, lambda raw: None, BERT | {"added_tokens_decoder": DECODER}))


# --- vocab.txt ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "vocab.txt is empty"),
        (b"\n\n", "vocab.txt is empty"),
        ("[UNK]\n\xe9".encode("latin-1"), "is no UTF-8 text"),
        ("\n".join([*WORDS, "more"]).encode(), "has 32 tokens, but the model has 31"),
        (b"a\nb\n", "sep_token|SEP"),
        (b"[CLS]\n[SEP]\na", "UNK"),
    ],
)
def test_a_vocabulary_that_is_none(contents, reason, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(contents)
    with pytest.raises(CheckpointError, match=reason):
        opened(tmp_path)


def test_a_vocabulary_may_end_with_empty_lines(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n\n\n")
    np.testing.assert_array_equal(opened(tmp_path)(["a [SEP]"])[0], [2, 5, 3, 3])


# --- the library -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "is_nested"),
    [
        ("(a+)+$", True),
        ("(?:a*)*", True),
        ("((a{2,}b)c)*", True),
        (r"(\p{L}+\s*){3,}", True),
        (r"([a+]\+)+", False),
        (r"(?:\r?\n)+", False),
        (r"(a+){2}", False),
        (r"\s+(?!\S)|\s+", False),
        (r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+", False),
        (r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+", False),
        ("", False),
        ("(", False),
    ],
)
def test_repetitions_of_repetitions(expression, is_nested):
    assert nested(expression) == is_nested


def test_a_text_on_which_the_library_fails_is_named():
    backend = wordpiece()
    backend.model = models.WordPiece({"a": 0}, unk_token="[UNK]")
    backend.post_processor = None
    for call in (Tokenizer(backend, "right"), Tokenizer(backend, "right").detailed):
        with pytest.raises(TextError, match="text 1 cannot be tokenised") as error:
            call(["a", "a b"])
        assert error.value.text == 1


class PanicException(BaseException):
    """As the library's own, which cannot be imported."""


def test_panics_are_errors_and_interrupts_pass():
    for error in (PanicException("why\nso"), ValueError("why\nso")):
        with (
            pytest.raises(InputError, match=r"^because why\\nso$"),
            caught(lambda why: InputError(f"because {why}")),
        ):
            raise error
    for error in (KeyboardInterrupt(), SystemExit(), MemoryError(), JaxbertError("own")):
        with pytest.raises(type(error)), caught(InputError):
            raise error


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\x08\0\0\0", b"\x03\0\0\0", b"", b"\0"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_precompiled_table_that_ends_early_is_refused_before_it_is_read(tmp_path, size, nested):
    table = base64.b64encode(size + b"\0" * 4 * (len(size) == 4)).decode()
    step = {"type": "Precompiled", "precompiled_charsmap": table}
    normalizer = {"type": "Sequence", "normalizers": [step]} if nested else step
    folder = edited(tmp_path, put(["normalizer"], normalizer))
    with pytest.raises(CheckpointError, match="Precompiled table"):
        opened(folder)


def test_an_added_token_with_the_id_of_another_is_refused(tmp_path):
    token = {"id": 7, "content": "new", "special": False, "single_word": False}
    token |= dict.fromkeys(("lstrip", "rstrip", "normalized"), False)
    folder = edited(tmp_path, put(["added_tokens"], [token]))
    with pytest.raises(CheckpointError, match="'new' the id 7, which is another token's"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize("inside", ["b\0\0\0", "PK\x03\x04"])
def test_a_vocabulary_with_a_lost_block_or_of_another_kind_is_refused(tmp_path, inside):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", inside, "c"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(CheckpointError, match="control character"):
        opened(tmp_path)


def test_special_tokens_that_are_no_text_are_refused(tmp_path):
    files = {"special_tokens_map": {"pad_token": "\ud800"}}
    folder = edited(tmp_path, lambda raw: None, {}, wordpiece(), **files)
    with pytest.raises(CheckpointError):
        Tokenizer.from_folder(folder)
