"""What tokenizer.json says, judged before a text is tokenised: ids, words, steps that can fail.

The tokenizers library takes much that fails later: at the first unknown word, at the first text
that has a token, or by using all memory. Each function refuses one kind of it.
"""

import base64
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from jaxbert.errors import CheckpointError, shown

# More ids than any vocabulary has; the library makes arrays up to the largest id.
MOST_IDS = 2**24
# Bytes of the largest tokenizer.json that is read; those of 250,000 tokens have 17 million.
LARGEST_FILE = 2**28
# The characters that byte-level tokenizers write bytes as.
BYTES = frozenset(
    chr(code)
    for code in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 256 + 68)]
)
# Tokens of single bytes, as Unigram and BPE fall back to them.
FALLBACK = frozenset(f"<0x{byte:02X}>" for byte in range(256))
# Settings of a model that draw tokens at random, and what takes each away.
RANDOM = {"dropout": None, "alpha": None, "nbest_size": None}


def check_size(file: Path) -> None:
    """Refuse a file that is too large to be a tokenizer."""
    size = file.stat().st_size
    if size > LARGEST_FILE:
        raise CheckpointError(
            f"{file} has {size:,} bytes, which is more than any tokenizer has; restore it"
        )


def check_parts(raw: Mapping[str, Any], file: Path) -> None:
    """Refuse what has not the parts that a tokenizer has, each of its type."""
    model = raw.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list) or not vocabulary:
        raise CheckpointError(f"{file} is no tokenizer: it has no model with a vocab; restore it")
    added = raw.get("added_tokens")
    if not isinstance(added, list | None) or not all(isinstance(one, dict) for one in added or ()):
        raise CheckpointError(f"{file} is no tokenizer: added_tokens is no list; restore it")


# --- ids ---------------------------------------------------------------------------------------


def check_ids(
    raw: Mapping[str, Any], file: Path, vocab_size: int | None, ignore: Collection[str]
) -> None:
    """Refuse an id that is none, or that the model's embeddings do not have.

    ignore may name vocab and added_tokens, whose ids beyond the model are then let pass.
    """
    for title, token, number in ids_of(raw):
        if type(number) is not int or not 0 <= number < MOST_IDS:
            raise CheckpointError(
                f"{file} gives {shown(token)} in {title} the id {shown(number)}, which is no id of "
                "a token; restore it"
            )
        if vocab_size is not None and number >= vocab_size and title not in ignore:
            raise CheckpointError(
                f"{file} gives {shown(token)} in {title} the id {number}, but the model has "
                f"{vocab_size} tokens; take both from one source"
                + (
                    f', or pass ignore_config=("{title}",): then a text that has one is refused'
                    if title != "post_processor"
                    else ""
                )
            )


def ids_of(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(part of the file, token, id) of every token that has one."""
    vocabulary = raw["model"]["vocab"]
    if isinstance(vocabulary, dict):
        for token, number in vocabulary.items():
            yield "vocab", token, number
    else:
        yield "vocab", vocabulary[-1], len(vocabulary) - 1
    for own in raw.get("added_tokens") or ():
        yield "added_tokens", own.get("content"), own.get("id")
    for token, number in template_ids(raw.get("post_processor")):
        yield "post_processor", token, number


def template_ids(processor: Any) -> Iterator[tuple[Any, Any]]:
    """(token, id) of what a post-processor puts around a text."""
    if not isinstance(processor, dict):
        return
    for key in ("cls", "sep"):
        pair = processor.get(key)
        if isinstance(pair, list) and len(pair) == 2:
            yield pair[0], pair[1]
    special = processor.get("special_tokens")
    for own in special.values() if isinstance(special, dict) else ():
        if isinstance(own, dict):
            yield from zip(own.get("tokens") or (), own.get("ids") or (), strict=False)
    for step in processor.get("processors") or ():
        yield from template_ids(step)


def vocabulary_of(raw: Mapping[str, Any]) -> dict[Any, Any]:
    """Token -> id, of the model and of what is added to it."""
    own = raw["model"]["vocab"]
    if isinstance(own, list):
        own = {pair[0]: i for i, pair in enumerate(own) if isinstance(pair, list) and pair}
    added = {one.get("content"): one.get("id") for one in raw.get("added_tokens") or ()}
    return {**own, **added}


def check_template(raw: Mapping[str, Any], file: Path) -> None:
    """Refuse a post-processor whose tokens have other ids than in the vocabulary."""
    vocabulary = vocabulary_of(raw)
    for token, number in template_ids(raw.get("post_processor")):
        known = vocabulary.get(token) if isinstance(token, str) else None
        if known != number:
            raise CheckpointError(
                f"{file} puts {shown(token)} around each text with the id {number}, but its "
                f"vocabulary {'has no such token' if known is None else f'says {known}'}; "
                "restore it"
            )


# --- words -------------------------------------------------------------------------------------


def check_unknown(raw: Mapping[str, Any], kind: str, file: Path) -> None:
    """Refuse a model that has no token for what its vocabulary has not.

    The library fails at the first such word, or drops it.
    """
    model, vocabulary = raw["model"], raw["model"]["vocab"]
    if kind == "Unigram":
        number = model.get("unk_id")
        if number is None:
            raise CheckpointError(f"{file} names no unk_id for unknown characters; restore it")
        if type(number) is not int or not 0 <= number < len(vocabulary):
            raise CheckpointError(
                f"{file} has unk_id = {shown(number)}, but its vocab has {len(vocabulary)} tokens; "
                "restore it"
            )
        return
    token = model.get("unk_token", None if kind == "BPE" else "[UNK]")
    if token in vocabulary or (kind == "BPE" and (token is None or spells_bytes(raw))):
        return
    raise CheckpointError(
        f"{file} has unk_token = {shown(token)}, which is not in its vocab, so that an unknown "
        "word has no token; restore it"
    )


def spells_bytes(raw: Mapping[str, Any]) -> bool:
    """Whether a BPE model has a token for every byte, so that nothing is unknown to it."""
    words = raw["model"]["vocab"].keys()
    by_level = any(step.get("type") == "ByteLevel" for step in steps(raw))
    return (by_level and words >= BYTES) or (
        raw["model"].get("byte_fallback") is True and words >= FALLBACK
    )


def check_random(raw: dict[str, Any], file: Path, ignore: Collection[str]) -> None:
    """Refuse settings that draw tokens at random, as dropout in training; ignore takes them away.

    Differs: transformers keeps them, and its vectors change from call to call.
    """
    for key, nothing in RANDOM.items():
        value = raw["model"].get(key)
        if value is None or value == 0:
            continue
        if key not in ignore:
            raise CheckpointError(
                f"{file} has {key} = {shown(value)}, which draws other tokens for the same text in "
                f'each call; pass ignore_config=("{key}",) to tokenise without it'
            )
        raw["model"][key] = nothing


# --- steps -------------------------------------------------------------------------------------


def steps(part: Any, names: Sequence[str] = ("normalizer", "pre_tokenizer")) -> Iterator[Any]:
    """Every normaliser and pre-tokenizer, those inside of others too."""
    if isinstance(part, list):
        for own in part:
            yield from steps(own, names)
    elif isinstance(part, dict):
        yield part
        for name in (*names, "normalizers", "pretokenizers", "processors"):
            yield from steps(part.get(name), names)


def check_charsmaps(normalizer: Any, file: Path) -> None:
    """Refuse a Precompiled table that ends early: the library believes its first four bytes.

    They are the size of a trie, little-endian, and memory for it is taken before anything is read;
    where there is not enough the process is aborted. Ask before the library sees the file.
    """
    for step in steps(normalizer):
        if step.get("type") != "Precompiled":
            continue
        try:
            table = base64.b64decode(step["precompiled_charsmap"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file} has a Precompiled table that is no base64") from error
        size = int.from_bytes(table[:4], "little")
        if len(table) < 4 or size % 4 or size > len(table) - 4:
            raise CheckpointError(
                f"{file} has a Precompiled table of {len(table)} bytes that says it has {size} and "
                "more; restore it"
            )


def check_added(backend: tokenizers.Tokenizer, raw: Mapping[str, Any], file: Path) -> None:
    """Refuse an added token to which the library gives another id than the file says.

    It does so where a new token has an id that is taken.
    """
    for own in raw.get("added_tokens") or ():
        found = backend.token_to_id(own["content"])
        if found != own["id"]:
            raise CheckpointError(
                f"{file} gives the added token {shown(own['content'])} the id {own['id']}, which "
                f"is another token's (it would get {found}); restore it"
            )


def check_steps(raw: Mapping[str, Any], file: Path) -> None:
    """Refuse steps on which the library panics, or takes a time without bound."""
    for step in steps(raw):
        if step.get("type") == "FixedLength" and step.get("length") == 0:
            raise CheckpointError(f"{file} cuts texts into pieces of length 0; restore it")
        pattern = step.get("pattern")
        expression = pattern.get("Regex") if isinstance(pattern, dict) else None
        if isinstance(expression, str) and nested(expression):
            raise CheckpointError(
                f"{file} has the regular expression {shown(expression)}, which repeats a "
                "repetition and can take a time without bound; write it without"
            )
    for step in steps(raw.get("post_processor")):
        single = step.get("single")
        parts = [one["Sequence"].get("id") for one in single or () if "Sequence" in one]
        if single is not None and parts != ["A"]:
            raise CheckpointError(
                f"{file} puts {len(parts)} sequences ({shown(parts)}) where a single text stands; "
                "it must be one, A; restore it"
            )


# One element of a regular expression: an escape, a class of characters, or a character.
ELEMENT = re.compile(r"\\[pPxuk]\{[^}]*\}|\\.|\[(?:\\.|\[:.*?:\]|[^\]\\])+\]|.", re.DOTALL)
REPEATED = re.compile(r"[*+]|\{\d*,\}")


def nested(expression: str) -> bool:
    """Whether a repetition without bound stands in a group that is repeated without bound."""
    place, groups = 0, [False]  # of each open group: whether it holds a repetition
    while place < len(expression):
        found = ELEMENT.match(expression, place)
        element = found.group() if found else expression[place]
        place += len(element)
        inside = False
        if element == "(":
            groups.append(False)
            place += len(re.match(r"\?(?:<?[=!]|[:>]|[imsx-]+:)|", expression[place:]).group())  # type: ignore[union-attr]
            continue
        if element == ")" and len(groups) > 1:
            inside = groups.pop()
        repeated = REPEATED.match(expression, place)
        if repeated and element not in "|*+?":
            if inside:
                return True
            place += len(repeated.group())
            inside = True
        groups[-1] |= inside
    return False


def without_state(raw: Mapping[str, Any]) -> str:
    """The file's text without its padding and truncation, which each call here decides anew."""
    return json.dumps({**raw, "padding": None, "truncation": None})
