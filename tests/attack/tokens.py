"""Mutations of tokenizers: ids, unknown words, steps, patterns, and files that disagree."""

import json
from pathlib import Path
from random import Random
from typing import Any

from tests.attack.spoil import (
    FOLLOWED,
    HARMLESS,
    KNOWN,
    OTHER,
    REFUSED,
    Folder,
    Mutation,
    Spoiled,
    one_of,
)
from tests.attack.values import MARK, write
from tests.attack.vocabularies import SIZE

# Ids that no row of the embeddings belongs to.
BEYOND = (SIZE, SIZE + 1000, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, -1)
ODD_TRUNCATION = {"max_length": 5, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
PADDING = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0}


def load(file: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def tokenizer(folder: Folder) -> tuple[Path, dict[str, Any]] | None:
    """tokenizer.json and its contents."""
    file = folder.find("tokenizer.json")
    return None if file is None else (file, load(file))


def with_id(model: dict[str, Any], random: Random, new: int) -> str | None:
    """Give one word of a vocabulary another id."""
    vocabulary = model["vocab"]
    if not isinstance(vocabulary, dict):
        return None
    word: str = random.choice(list(vocabulary))
    vocabulary[word] = new
    return word


def id_beyond(folder: Folder, random: Random) -> Spoiled | None:
    """A word whose id has no row."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    new = random.choice(BEYOND)
    word = with_id(raw["model"], random, new)
    if word is None:
        raw["model"]["vocab"] += [[f"more{i}", -9.0] for i in range(3)]
        word, new = "more0", SIZE
    write(file, raw)
    return Spoiled(f"the id of {word!r} is {new}", REFUSED)


def id_doubled(folder: Folder, random: Random) -> Spoiled | None:
    """Two words with one id."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    new = random.randrange(SIZE)
    word = with_id(raw["model"], random, new)
    if word is None:
        return None
    write(file, raw)
    return Spoiled(f"the id of {word!r} is {new}", OTHER)


def added_token(folder: Folder, random: Random) -> Spoiled | None:
    """A token beside the vocabulary."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    content = random.choice(("new", "", " ", "a", "\0", "\x1b[2J", "y" * 10_000, "é", "[CLS]"))
    own = {"id": random.choice((SIZE, 2, 7, 2**31 - 1, 2**32 - 1)), "content": content}
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    own |= {flag: random.random() < 0.5 for flag in flags}
    raw["added_tokens"].append(own)
    write(file, raw)
    new = content not in ("a", "[CLS]", "é", "") and content not in raw["model"]["vocab"]
    shown = f"a token {content[:9]!r} of the id {own['id']} more"
    return Spoiled(shown, REFUSED if new and len(content) < 99 else OTHER)


def unknown_word(folder: Folder, random: Random) -> Spoiled | None:
    """The tokenizer says wrongly what an unknown word becomes."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    model = raw["model"]
    if model["type"] == "Unigram":
        model["unk_id"] = random.choice((None, SIZE, 2**31, 2**63, -1, "x"))
        write(file, raw)
        return Spoiled(f"unk_id {model['unk_id']}", REFUSED)
    model["unk_token"] = random.choice(("[XX]", "", "\x1b[2J", None, 5, "z" * 100_000))
    write(file, raw)
    # Every byte has a token in a byte-level vocabulary: nothing is unknown.
    allowed = KNOWN if model["type"] == "BPE" else REFUSED
    return Spoiled(f"unk_token {str(model['unk_token'])[:9]!r}", allowed)


def dropout(folder: Folder, random: Random) -> Spoiled | None:
    """Merges left out by chance."""
    found = tokenizer(folder)
    if found is None or found[1]["model"]["type"] != "BPE":
        return None
    file, raw = found
    name = random.choice(("0.5", "1", "0.1", "1e-5", "2", "-1", "NaN", "1e400"))
    raw["model"]["dropout"] = MARK
    write(file, raw, MARK, name)
    return Spoiled(f"dropout {name}", KNOWN)


def odd_model(folder: Folder, random: Random) -> Spoiled | None:
    """Settings of the vocabulary that are none, or that make the library panic."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    model = raw["model"]
    edits: dict[str, Any] = {
        "type": random.choice(("WordLevel", "Unigram", "BPE", "WordPiece", "Other", None)),
        "max_input_chars_per_word": random.choice((0, -1, 2**63, 1)),
        "continuing_subword_prefix": random.choice(("", "é", "#", None, "x" * 9999)),
        "end_of_word_suffix": random.choice(("é", "</w>", "")),
        "merges": random.choice(([["a"]], [["a", "nothing"]], ["a b c"], [5], None, [["th", "e"]])),
        "vocab": random.choice(({}, [], None, "x", [["a", "NaN"]], [["", 0.0]])),
        "byte_fallback": True,
        "fuse_unk": True,
        "ignore_merges": True,
    }
    key = random.choice(list(edits))
    model[key] = edits[key]
    write(file, raw)
    return Spoiled(f"model.{key} = {str(edits[key])[:20]!r}", OTHER)


def padded(folder: Folder, random: Random) -> Spoiled | None:
    """Stored padding and truncation, which each call sets anew, in every size."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    fixed: list[dict[str, Any]] = [
        {"strategy": {"Fixed": n}} for n in (5, 50, 3_000_000, 2**40, 2**63)
    ]
    changes = [*fixed, {"strategy": "BatchLongest"}, {"pad_type_id": 1}, {"pad_id": 999}]
    changes += [{"pad_to_multiple_of": 8}, {"pad_to_multiple_of": 0}, {"direction": "Left"}]
    change = random.choice(changes)
    padding = {"strategy": "BatchLongest", **PADDING, "pad_token": "[PAD]"} | change
    raw["padding"] = padding
    write(file, raw)
    odd = 0 in change.values() or change.get("strategy") in ({"Fixed": 2**40}, {"Fixed": 2**63})
    odd = odd or "direction" in change  # transformers pads so, and moves the positions of a text
    return Spoiled(f"padding {change}", KNOWN if odd else HARMLESS)


def cut(folder: Folder, random: Random) -> Spoiled | None:
    """Stored truncation: its length is another's business, its side is the model's."""
    found = tokenizer(folder)
    if found is None:
        return None
    file, raw = found
    changes: list[dict[str, Any]] = [{"max_length": n} for n in (0, 1, 2, 9, 2**63)]
    changes += [{"stride": 4}, {"stride": 2**63}, {"strategy": "OnlyFirst"}, {"strategy": "None"}]
    change = random.choice([*changes, *[{"direction": "Left"}] * 4])
    raw["truncation"] = ODD_TRUNCATION | change
    write(file, raw)
    if change == {"direction": "Left"}:
        return Spoiled("truncation on the left", FOLLOWED)
    return Spoiled(f"truncation {change}", KNOWN)


def contradicted(folder: Folder, random: Random) -> Spoiled | None:
    """tokenizer_config.json tells another story than tokenizer.json."""
    file = folder.find("tokenizer_config.json")
    if file is None:
        return None
    raw = load(file)
    bert = raw.get("tokenizer_class") == "BertTokenizer"
    special = FOLLOWED if bert else OTHER
    edits: dict[str, tuple[dict[str, Any], frozenset[str]]] = {
        "cased": ({"do_lower_case": False}, FOLLOWED if bert else OTHER),
        "lower_case of text": ({"do_lower_case": "false"}, OTHER),
        "accents": ({"strip_accents": False}, FOLLOWED if bert else OTHER),
        "left": ({"truncation_side": "left"}, FOLLOWED),
        "no side": ({"truncation_side": "middle"}, REFUSED),
        "a side of numbers": ({"truncation_side": 5}, REFUSED),
        "padding on the left": ({"padding_side": "left"}, OTHER),
        "another first token": ({"cls_token": "cat"}, special),
        "another last token": ({"sep_token": "cat"}, special),
        "another unknown token": ({"unk_token": "cat"}, special),
        "an unknown first token": ({"cls_token": "[XX]"}, OTHER),
        "RoBERTa's class": ({"tokenizer_class": "RobertaTokenizer"}, OTHER),
        "a class of no text": ({"tokenizer_class": 5}, KNOWN),
        "remote code": ({"auto_map": {"AutoTokenizer": ["x--y.Z", None]}}, OTHER),
        "no length": ({"model_max_length": -5}, KNOWN),
        "a length of text": ({"model_max_length": "512"}, KNOWN),
        "an endless length": ({"model_max_length": 10**30}, OTHER),
    }
    title, (edit, allowed) = one_of(random, edits)
    write(file, raw | edit)
    if set(edit) & {"cls_token", "sep_token", "unk_token"}:
        # It would be asked before, and say the right ones.
        file.with_name("special_tokens_map.json").unlink(missing_ok=True)
    return Spoiled(f"{folder.title(file)}: {title}", allowed)


def other_map(folder: Folder, random: Random) -> Spoiled | None:
    """The small files of older versions name special and added tokens."""
    place = folder.find("tokenizer_config.json")
    if place is None:
        return None
    tokens: Any = (
        {"cls_token": "cat"},
        {"sep_token": 5},
        {"unk_token": {"content": "cat"}},
        [],
        {},
    )
    added = ({"cat": 7}, {"more": SIZE}, {"more": 2}, {"": 5}, {"more": -1}, {"more": "x"}, [1])
    edits: dict[str, Any] = {"special_tokens_map.json": tokens, "added_tokens.json": added}
    name, choices = one_of(random, edits)
    new = random.choice(choices)
    write(place.with_name(name), new)
    return Spoiled(f"{name} is {new}", OTHER)


def vocabulary_text(folder: Folder, random: Random) -> Spoiled | None:
    """vocab.txt with other lines."""
    file = folder.find("vocab.txt")
    if file is None or folder.find("tokenizer.json") is not None:
        return None
    lines = file.read_text(encoding="utf-8").splitlines()
    i = random.randrange(5, len(lines))
    edits = {
        "without [UNK]": (["x" if line == "[UNK]" else line for line in lines], REFUSED),
        "without [CLS]": (["x" if line == "[CLS]" else line for line in lines], REFUSED),
        "longer": ([*lines, "more"], REFUSED),
        "much longer": ([*lines, *(f"more{n}" for n in range(999))], REFUSED),
        "a line less": (lines[:i] + lines[i + 1 :], OTHER),
        "an empty line": ([*lines[:i], "", *lines[i + 1 :]], OTHER),
        "a line twice": ([*lines[:i], lines[i - 1], *lines[i + 1 :]], OTHER),
        "one line": ([" ".join(lines)], REFUSED),
    }
    title, (new, allowed) = one_of(random, edits)
    file.write_text("\n".join(new) + "\n", encoding="utf-8")
    return Spoiled(f"vocab.txt {title}", allowed)


IDS: list[Mutation] = [id_beyond, id_beyond, id_doubled, added_token, unknown_word, unknown_word]
TOKENS: list[Mutation] = [dropout, odd_model, padded, cut, contradicted, contradicted]
TOKENS += [other_map, vocabulary_text]
