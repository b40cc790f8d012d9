"""A folder's tokenizer files, opened as transformers opens them, and checked for contradictions."""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tokenizers
from tokenizers import normalizers

from jaxbert.checkpoint.files import is_there
from jaxbert.checkpoint.json_file import read_object, typed
from jaxbert.checkpoint.sums import read_text
from jaxbert.errors import CheckpointError, shown
from jaxbert.text import tokenizer_json
from jaxbert.text.panics import caught
from jaxbert.text.special_tokens import BERT_TOKENS, Files, add_special

Side = Literal["left", "right"]

# transformers' defaults for a BertTokenizer where tokenizer_config.json has no value.
BERT_DEFAULTS = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}
# Classes whose vocab.txt is read as BERT's; DistilBERT's extends BERT's and changes nothing.
WORDPIECE_CLASSES = r"(Distil)?BertTokenizer(Fast)?"
# Settings of WordPiece that transformers gives every BertTokenizer.
BERT_MODEL = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
# Characters that no line of a vocabulary has.
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
# Texts that every tokenizer must accept: empty, with known and unknown characters, long runs.
PROBES = ("a", "", " ", "7 é 漢字 😀\u200d\u0301 \uffff", "a" * 64 + "!", " " * 64 + "1" * 64)


class Opened(NamedTuple):
    """A tokenizer without padding and truncation, and what the files beside it say."""

    backend: tokenizers.Tokenizer
    side: Side  # on which texts are cut
    gives_types: bool  # the model is given token types, if the tokenizer has any but 0


def open_files(
    folder: Path, lower_case: bool, ignore: Collection[str], vocab_size: int | None
) -> Opened:
    """The tokenizer of tokenizer.json, or of vocab.txt; arguments as in Tokenizer.from_folder."""
    files = Files.of(folder, ignore)
    file = folder / "tokenizer.json"
    with caught(lambda why: CheckpointError(f"{file} is no tokenizer ({why}); restore it")):
        if is_there(file):
            raw = read_tokenizer(file, vocab_size, ignore)
            backend = tokenizers.Tokenizer.from_str(tokenizer_json.without_state(raw))
            check(backend, raw, file)
            rebuilt = check_agreement(backend, raw, files)
        elif is_there(folder / "vocab.txt"):
            raw, backend, rebuilt = {}, from_vocabulary(files, vocab_size), True
        else:
            raise CheckpointError(f"{folder} has neither tokenizer.json nor vocab.txt")
        add_special(backend, raw.get("added_tokens") or [], files, rebuilt)
    backend.encode_special_tokens = files.settings.get("split_special_tokens") is True
    if lower_case and not lowers(backend.normalizer):
        steps = [step for step in (normalizers.Lowercase(), backend.normalizer) if step]
        backend.normalizer = normalizers.Sequence(steps)
    probe(backend, folder)
    return Opened(backend, cut_side(raw, files), types_are_given(files))


def read_tokenizer(file: Path, vocab_size: int | None, ignore: Collection[str]) -> dict[str, Any]:
    """The contents of tokenizer.json, checked before the library reads them."""
    tokenizer_json.check_size(file)
    raw = read_object(file)
    tokenizer_json.check_parts(raw, file)
    tokenizer_json.check_ids(raw, file, vocab_size, ignore)
    tokenizer_json.check_random(raw, file, ignore)
    tokenizer_json.check_charsmaps(raw.get("normalizer"), file)
    return raw


def check(backend: tokenizers.Tokenizer, raw: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError for contents that the library accepts but fails on later."""
    stored = {**raw, "post_processor": state(backend.post_processor)}
    tokenizer_json.check_template(stored, file)
    tokenizer_json.check_unknown(stored, type(backend.model).__name__, file)
    tokenizer_json.check_steps(stored, file)
    tokenizer_json.check_added(backend, raw, file)


def probe(backend: tokenizers.Tokenizer, folder: Path) -> None:
    """Tokenise a few texts, so that a broken tokenizer fails now. Raises CheckpointError."""
    with caught(lambda why: CheckpointError(f"{folder} has a tokenizer that fails ({why})")):
        types = [backend.encode(text).type_ids for text in PROBES]
    if any(map(any, types)):
        raise CheckpointError(f"{folder} gives single texts a token type that is not 0")


def state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as a dict, in the form of tokenizer.json, defaults included."""
    return {} if part is None else json.loads(part.__getstate__())


# --- sides -------------------------------------------------------------------------------------


def cut_side(raw: Mapping[str, Any], files: Files) -> Side:
    """The side on which long texts are cut. Raises CheckpointError for padding on the left."""
    padded = side("padding_side", "padding", raw, files)
    if padded == "left" and "padding_side" not in files.ignore:
        raise CheckpointError(
            f"{files.folder} pads on the left, so that the positions of a text depend on its "
            'batch mates; pass ignore_config=("padding_side",) for the vectors that texts have '
            "alone"
        )
    return side("truncation_side", "truncation", raw, files)


def side(key: str, part: str, raw: Mapping[str, Any], files: Files) -> Side:
    """The side by key of tokenizer_config.json, else by part of tokenizer.json, else right."""
    stored = raw.get(part)
    default = stored.get("direction", "Right") if isinstance(stored, dict) else "Right"
    value = files.settings.get(key, str(default).lower())
    if value not in ("left", "right"):
        raise CheckpointError(
            f"{files.folder} has {key} = {shown(value)}; it must be left or right"
        )
    return "left" if value == "left" else "right"


def types_are_given(files: Files) -> bool:
    """Whether token types are among the inputs that tokenizer_config.json lists; if it does."""
    settings = {} if "model_input_names" in files.ignore else files.settings
    file = files.folder / "tokenizer_config.json"
    names = typed(settings, "model_input_names", list | None, None, file)
    return names is None or "token_type_ids" in names


# --- tokenizer.json and the files next to it ---------------------------------------------------


def check_agreement(backend: tokenizers.Tokenizer, raw: Mapping[str, Any], files: Files) -> bool:
    """Whether transformers rebuilds the tokenizer, as it does every BertTokenizer.

    It does so from vocabulary and tokenizer_config.json, with defaults for absent keys; then
    tokenizer.json must be what it would build. Raises CheckpointError where the files disagree.
    """
    normalizer, splitter = state(backend.normalizer), state(backend.pre_tokenizer)
    name, settings = files.settings.get("tokenizer_class"), files.settings
    by_default = name is None and type(backend.model).__name__ == "WordPiece"
    rebuilt = by_default or str(name).startswith("BertTokenizer")
    rebuilt = rebuilt and "tokenizer_class" not in files.ignore
    if rebuilt:
        if not as_rebuilt(backend, raw, files):
            raise CheckpointError(
                f"{files.folder} has a tokenizer.json that is not the BertTokenizer its files say "
                'it is; pass ignore_config=("tokenizer_class",) to follow tokenizer.json'
            )
        settings = {**BERT_DEFAULTS, **settings}
    stored: dict[str, Any] = {}
    if normalizer.get("type") == "BertNormalizer":
        stored["do_lower_case"] = normalizer["lowercase"]
        stored["strip_accents"] = normalizer["strip_accents"]
        stored["tokenize_chinese_chars"] = normalizer["handle_chinese_chars"]
    if splitter.get("type") == "ByteLevel":
        stored["add_prefix_space"] = splitter["add_prefix_space"]
    for key, value in stored.items():
        if key not in files.ignore and settings.get(key, value) != value:
            raise files.contradicts(key, settings[key], value)
    return rebuilt


def as_rebuilt(backend: tokenizers.Tokenizer, raw: Mapping[str, Any], files: Files) -> bool:
    """Whether tokenizer.json has the steps that transformers gives every BertTokenizer."""
    words = {**BERT_TOKENS, **files.words}
    model = {**BERT_MODEL, "unk_token": words["unk_token"]}
    ends = [backend.token_to_id(words[key]) for key in ("cls_token", "sep_token")]
    return (
        type(backend.model).__name__ == "WordPiece"
        and all(raw["model"].get(key, value) == value for key, value in model.items())
        and state(backend.normalizer).get("type") == "BertNormalizer"
        and state(backend.normalizer).get("clean_text") is True
        and state(backend.pre_tokenizer) == {"type": "BertPreTokenizer"}
        and backend.encode("").ids == ends
        and single_is(backend, ends)
    )


def single_is(backend: tokenizers.Tokenizer, ends: list[int | None]) -> bool:
    """Whether the tokenizer puts a text between these two tokens."""
    ids = backend.encode("a").ids
    return len(ids) > 2 and [ids[0], ids[-1]] == ends


# --- vocab.txt ---------------------------------------------------------------------------------


def from_vocabulary(files: Files, vocab_size: int | None) -> tokenizers.Tokenizer:
    """BERT's WordPiece over vocab.txt; lower-casing unless tokenizer_config.json says no."""
    folder, name = files.folder, files.settings.get("tokenizer_class")
    if name is not None and not re.fullmatch(WORDPIECE_CLASSES, str(name)):
        raise CheckpointError(f"{folder} wants a {name}, which only tokenizer.json could describe")
    if files.added:
        raise CheckpointError(f"{folder} has added_tokens.json but no tokenizer.json; make one")
    file = folder / "vocab.txt"
    check_vocabulary(file, vocab_size, files.ignore)
    chosen = {**BERT_DEFAULTS, **files.settings}
    words = {**BERT_TOKENS, **files.words}
    with caught(lambda why: CheckpointError(f"{file} is no vocabulary ({why}); restore it")):
        return tokenizers.BertWordPieceTokenizer(
            str(file),
            unk_token=words["unk_token"],
            sep_token=words["sep_token"],
            cls_token=words["cls_token"],
            pad_token=words["pad_token"],
            mask_token=words["mask_token"],
            lowercase=chosen["do_lower_case"],
            strip_accents=chosen["strip_accents"],
            handle_chinese_chars=chosen["tokenize_chinese_chars"],
        )._tokenizer


def check_vocabulary(file: Path, vocab_size: int | None, ignore: Collection[str]) -> None:
    """Raise CheckpointError for a vocab.txt that is no text, empty, or too large for the model."""
    tokenizer_json.check_size(file)
    text = read_text(file)
    if control := CONTROLS.search(text):
        raise CheckpointError(
            f"{file} holds the control character {shown(control.group())}, which no word has (a "
            "lost block or another kind of file); fetch it again"
        )
    words = text.rstrip().split("\n")
    if words == [""]:
        raise CheckpointError(f"{file} is empty; restore it")
    if vocab_size is not None and len(words) > vocab_size and "vocab" not in ignore:
        raise CheckpointError(
            f"{file} has {len(words)} tokens, but the model has {vocab_size}; take both from one "
            'source, or pass ignore_config=("vocab",): then a text that has one is refused'
        )


def lowers(normalizer: normalizers.Normalizer | None) -> bool:
    """Whether the normaliser contains a plain lower-casing step."""
    if isinstance(normalizer, normalizers.Sequence):
        return any(lowers(step) for step in normalizer)  # type: ignore[attr-defined]
    return isinstance(normalizer, normalizers.Lowercase)
