"""Checks of tokenizer.json before a text is tokenised: ids, words, steps that can fail.

The tokenizers library accepts files on which it fails later: at the first unknown word, at the
first text with some token, or by using all memory. Each function raises CheckpointError for one
kind of these.
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
# Settings of a model that draw tokens at random, and the value that turns each off.
RANDOM = {"dropout": None, "alpha": None, "nbest_size": None}


def check_size(file: Path) -> None:
    """Raise CheckpointError for a file that is too large to be a tokenizer."""
    size = file.stat().st_size
    if size > LARGEST_FILE:
        raise CheckpointError(
            f"{file} has {size:,} bytes, which is more than any tokenizer has; restore it"
        )


def check_parts(raw: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError unless there is a model with a vocab, and added_tokens is a list."""
    model = raw.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list) or not vocabulary:
        raise CheckpointError(f"{file} is no tokenizer: it has no model with a vocab; restore it")
    added = raw.get("added_tokens")
    if not isinstance(added, list | None) or not all(
        isinstance(token, dict) for token in added or ()
    ):
        raise CheckpointError(f"{file} is no tokenizer: added_tokens is no list; restore it")


# --- ids ---------------------------------------------------------------------------------------


def check_ids(
    raw: Mapping[str, Any], file: Path, vocab_size: int | None, ignore: Collection[str]
) -> None:
    """Raise CheckpointError for an id that is no integer or outside the model's embeddings.

    ignore may name vocab and added_tokens, whose ids outside the embeddings are then accepted.
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
    """(part of the file, token, id) of every token with an id."""
    vocabulary = raw["model"]["vocab"]
    if isinstance(vocabulary, dict):
        for token, number in vocabulary.items():
            yield "vocab", token, number
    else:
        yield "vocab", vocabulary[-1], len(vocabulary) - 1
    for added in raw.get("added_tokens") or ():
        yield "added_tokens", added.get("content"), added.get("id")
    for token, number in template_ids(raw.get("post_processor")):
        yield "post_processor", token, number


def template_ids(processor: Any) -> Iterator[tuple[Any, Any]]:
    """(token, id) of every token that a post-processor puts around a text."""
    if not isinstance(processor, dict):
        return
    for key in ("cls", "sep"):
        pair = processor.get(key)
        if isinstance(pair, list) and len(pair) == 2:
            yield pair[0], pair[1]
    special = processor.get("special_tokens")
    for entry in special.values() if isinstance(special, dict) else ():
        if isinstance(entry, dict):
            yield from zip(entry.get("tokens") or (), entry.get("ids") or (), strict=False)
    for step in processor.get("processors") or ():
        yield from template_ids(step)


def vocabulary_of(raw: Mapping[str, Any]) -> dict[Any, Any]:
    """Token -> id, of the model's vocabulary and of the added tokens."""
    words = raw["model"]["vocab"]
    if isinstance(words, list):
        words = {pair[0]: i for i, pair in enumerate(words) if isinstance(pair, list) and pair}
    added = {token.get("content"): token.get("id") for token in raw.get("added_tokens") or ()}
    return {**words, **added}


def check_template(raw: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError for a post-processor whose ids differ from the vocabulary."""
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
    """Raise CheckpointError for a model without a token for unknown words.

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
    """Raise CheckpointError for settings that draw tokens at random, such as dropout in training.

    Those named in ignore are turned off in raw instead.
    Differs: transformers keeps them, and its vectors change from call to call.
    """
    for key, off in RANDOM.items():
        value = raw["model"].get(key)
        if value is None or value == 0:
            continue
        if key not in ignore:
            raise CheckpointError(
                f"{file} has {key} = {shown(value)}, which draws other tokens for the same text in "
                f'each call; pass ignore_config=("{key}",) to tokenise without it'
            )
        raw["model"][key] = off


# --- steps -------------------------------------------------------------------------------------


def steps(part: Any, names: Sequence[str] = ("normalizer", "pre_tokenizer")) -> Iterator[Any]:
    """Every step under these names, those inside other steps too."""
    if isinstance(part, list):
        for inner in part:
            yield from steps(inner, names)
    elif isinstance(part, dict):
        yield part
        for name in (*names, "normalizers", "pretokenizers", "processors"):
            yield from steps(part.get(name), names)


def check_charsmaps(normalizer: Any, file: Path) -> None:
    """Raise CheckpointError for a Precompiled table that is shorter than its first bytes say.

    The first four are the size of a trie, little-endian. The library allocates that much before it
    reads the rest, and aborts the process where it cannot; so call this before it reads the file.
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
    """Raise CheckpointError for an added token whose id in the library is not that of the file.

    That happens where a new token has an id that is taken.
    """
    for token in raw.get("added_tokens") or ():
        actual = backend.token_to_id(token["content"])
        if actual != token["id"]:
            raise CheckpointError(
                f"{file} gives the added token {shown(token['content'])} the id {token['id']}, "
                f"which is another token's (it would get {actual}); restore it"
            )


def check_steps(raw: Mapping[str, Any], file: Path) -> None:
    """Raise CheckpointError for steps on which the library panics, or may never finish."""
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
        sequences = [item["Sequence"].get("id") for item in single or () if "Sequence" in item]
        if single is not None and sequences != ["A"]:
            raise CheckpointError(
                f"{file} puts {len(sequences)} sequences ({shown(sequences)}) where a single text "
                "stands; it must be one, A; restore it"
            )


# One element of a regular expression: an escape, a class of characters, or a character.
ELEMENT = re.compile(r"\\[pPxuk]\{[^}]*\}|\\.|\[(?:\\.|\[:.*?:\]|[^\]\\])+\]|.", re.DOTALL)
REPEATED = re.compile(r"[*+]|\{\d*,\}")


def nested(expression: str) -> bool:
    """Whether a regular expression repeats, without a bound, a group with such a repetition."""
    index, groups = 0, [False]  # of each open group: whether it holds a repetition
    while index < len(expression):
        match = ELEMENT.match(expression, index)
        element = match.group() if match else expression[index]
        index += len(element)
        inside = False
        if element == "(":
            groups.append(False)
            index += len(re.match(r"\?(?:<?[=!]|[:>]|[imsx-]+:)|", expression[index:]).group())  # type: ignore[union-attr]
            continue
        if element == ")" and len(groups) > 1:
            inside = groups.pop()
        repeated = REPEATED.match(expression, index)
        if repeated and element not in "|*+?":
            if inside:
                return True
            index += len(repeated.group())
            inside = True
        groups[-1] |= inside
    return False


def without_state(raw: Mapping[str, Any]) -> str:
    """tokenizer.json as text, without padding and truncation, which each call sets itself."""
    return json.dumps({**raw, "padding": None, "truncation": None})
