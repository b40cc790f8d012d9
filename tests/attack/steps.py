"""Mutations of the steps of a tokenizer: before the vocabulary, and around the tokens."""

import json
from random import Random
from typing import Any

from tests.attack.spoil import KNOWN, OTHER, REFUSED, Folder, Mutation, Spoiled, one_of
from tests.attack.tokens import tokenizer
from tests.attack.values import MARK, VALUES, write
from tests.attack.vocabularies import SIZE

# Patterns that are no pattern, or take for ever on some text.
PATTERNS = (
    "(a+)+$",
    "(a|aa)+$",
    "(",
    "",
    "\\",
    "(?<=a+)b",
    "(.*a){20}",
    "\\p{Nothing}",
    "a{999999}",
)
STEP = {"behavior": "Isolated", "invert": False}
NORMALIZERS: list[dict[str, Any]] = [
    *({"type": kind} for kind in "Lowercase NFC NFD NFKC NFKD Nmt StripAccents ByteLevel".split()),
    {"type": "Strip", "strip_left": True, "strip_right": True},
    {"type": "Prepend", "prepend": "the "},
    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": "a .* b"}, "content": "cat"},
    {"type": "Replace", "pattern": {"String": " "}, "content": ""},
]
SPLITTERS: list[dict[str, Any]] = [
    *({"type": kind} for kind in "BertPreTokenizer Whitespace WhitespaceSplit".split()),
    {"type": "UnicodeScripts"},
    {"type": "Digits", "individual_digits": True},
    {"type": "Punctuation", "behavior": "MergedWithNext"},
    {"type": "Punctuation", "behavior": "Contiguous"},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
    {"type": "Metaspace", "replacement": "a", "prepend_scheme": "never", "split": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": False},
    {"type": "FixedLength", "length": 3},
    {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    },
    {"type": "Split", "pattern": {"Regex": "[^ ]+"}, "behavior": "Removed", "invert": True},
]


def post_processor(folder: Folder, random: Random) -> Spoiled | None:
    """What puts the special tokens around a text."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    text, pair = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    first = {"SpecialToken": {"id": "[X]", "type_id": 0}}

    def template(single: list[Any], ids: list[Any], tokens: tuple[str, ...] = ("[X]",)) -> Any:
        held = {"[X]": {"id": "[X]", "ids": ids, "tokens": list(tokens)}} if ids else {}
        own = {"type": "TemplateProcessing", "special_tokens": held}
        return own | {"single": single, "pair": [text, pair]}

    edits: dict[str, tuple[Any, frozenset[str]]] = {
        "asks for B": (template([pair], []), REFUSED),
        "nothing at all": (template([], []), OTHER),
        "the text twice": (template([text, text], []), OTHER),
        "an unknown token": (template([first, text], []), REFUSED),
        "an id beyond": (template([first, text], [SIZE]), REFUSED),
        "an id of 2^32 - 1": (template([first, text], [2**32 - 1]), REFUSED),
        "two ids, one token": (template([first, text], [2, 3]), OTHER),
        "other type": (template([{"Sequence": {"id": "A", "type_id": 1}}], []), REFUSED),
        "1000 tokens": (template([first, text], [2] * 1000, ("[X]",) * 1000), OTHER),
        "BERT beyond": (
            {"type": "BertProcessing", "sep": ["[SEP]", 2**31], "cls": ["[CLS]", 2]},
            REFUSED,
        ),
        "deep": (VALUES["3000 brackets"], KNOWN),
        "null": (None, OTHER),
        "unknown": ({"type": "Nothing"}, REFUSED),
    }
    title, (new, allowed) = one_of(random, edits)
    raw["post_processor"] = MARK if title == "deep" else new
    write(file, raw, *((MARK, new) if title == "deep" else ()))
    return Spoiled(f"post-processor: {title}", allowed)


def odd_step(folder: Folder, random: Random) -> Spoiled | None:
    """A step before the vocabulary, with patterns of every kind."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    pattern = random.choice(PATTERNS)
    regex = {"Regex": pattern}
    deep: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(random.choice((3, 200))):
        deep = {"type": "Sequence", "normalizers": [deep]}
    edits: dict[str, tuple[str, Any]] = {
        f"split at {pattern!r}": ("pre_tokenizer", {"type": "Split", "pattern": regex} | STEP),
        f"replace {pattern!r}": (
            "normalizer",
            {"type": "Replace", "pattern": regex, "content": "a" * 100},
        ),
        "replace nothing": (
            "normalizer",
            {"type": "Replace", "pattern": {"String": ""}, "content": "a"},
        ),
        "precompiled": ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        "precompiled, damaged": (
            "normalizer",
            {"type": "Precompiled", "precompiled_charsmap": "/////wAAAAAAAAAA"},
        ),
        "precompiled, empty": ("normalizer", {"type": "Precompiled", "precompiled_charsmap": ""}),
        "fixed length 0": ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
        "fixed length 2^63": ("pre_tokenizer", {"type": "FixedLength", "length": 2**63}),
        "prepended": ("normalizer", {"type": "Prepend", "prepend": "é" * 1000}),
        "deep": ("normalizer", deep),
        "nothing left": ("normalizer", {"type": "Replace", "pattern": regex, "content": ""}),
        "delimiter": ("pre_tokenizer", {"type": "CharDelimiterSplit", "delimiter": "a"}),
        "no split": ("pre_tokenizer", None),
        "no normaliser": ("normalizer", None),
        "unknown": ("normalizer", {"type": "Nothing"}),
        "odd version": ("version", "7.0"),
        "odd decoder": ("decoder", {"type": "Nothing"}),
    }
    title, (key, new) = one_of(random, edits)
    raw[key] = new
    write(file, raw)
    return Spoiled(f"{key}: {title}", OTHER)


def other_step(folder: Folder, random: Random) -> Spoiled | None:
    """Other steps that are steps: another model, of which long texts must be cut rightly."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    key = random.choice(("normalizer", "pre_tokenizer"))
    table = NORMALIZERS if key == "normalizer" else SPLITTERS
    chosen = [dict(random.choice(table)) for _ in range(random.choice((1, 1, 2)))]
    if len(chosen) == 1:
        raw[key] = chosen[0]
    else:
        raw[key] = {"type": "Sequence", f"{key.replace('_', '')}s": chosen}
    write(file, raw)
    return Spoiled(f"{key}: {json.dumps(chosen)[:120]}", OTHER)


STEPS: list[Mutation] = [post_processor, odd_step, odd_step, other_step, other_step]
