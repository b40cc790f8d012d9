"""Shortening of long texts before tokenisation, where their first tokens do not depend on the rest.

A text is cut at a boundary where every step of the tokenizer starts afresh: before a space after a
word. The text before such a boundary has the same tokens whatever comes after it, except for an
added token that crosses it; so a margin after the last token that counts is kept.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tokenizers

# Normalisers that depend on a character and its combining marks, never on text beyond a space.
LOCAL_NORMALIZERS = frozenset(
    "BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt StripAccents ByteLevel Prepend Strip "
    "Precompiled".split()
)
# The one replacement that is local too: runs of spaces become one, as XLM-R has it.
ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}}
# Pre-tokenizers that end a word at every space (of those, Metaspace and ByteLevel only as below),
# and those that cut words further.
AT_SPACES = frozenset("BertPreTokenizer Whitespace WhitespaceSplit".split())
WITHIN_WORDS = frozenset("Punctuation Digits UnicodeScripts".split())
# Where a word ends for all of these; BERT's splitter also ends one before punctuation, and before
# ideographs if the normaliser separates them.
WORD_END = re.compile(r"(?<=\S)(?= )")
BERT_END = re.compile(r"(?<=\S)(?=[ \n!-/:-@\[-`{-~])")
IDEOGRAPH_END = re.compile(r"(?<=\S)(?=[ \n!-/:-@\[-`{-~\u4e00-\u9fff])")
# Letters and digits that BERT's normaliser leaves in one word (not ideographs), and spaces: a word
# of more than max_input_chars_per_word characters is one unknown token, spaces are none.
WORD_RUN = r"[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
SPACE_RUN = r"[ \t\n\r]"
# Most characters of almost any token, characters that always stay, and the growth of a cut.
PER_TOKEN, LEAST, GROWTH = 16, 4096, 4
# Tokens that a character can have: one for each of its bytes.
TOKENS_PER_CHARACTER = 4


@dataclass(frozen=True)
class Shortening:
    """Shortens texts for one tokenizer; made by `of`."""

    ends: re.Pattern[str]  # where a text may be cut
    margin: int  # characters that an added token may span, with the spaces it takes
    runs: re.Pattern[str] | None = None  # runs of which only the first characters (group 1) count

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> "Shortening | None":
        """The Shortening of a tokenizer; None if a step of it may depend on text beyond a space."""
        normalizer, splitter = state(backend.normalizer), state(backend.pre_tokenizer)
        if not all(map(is_local, flat(normalizer, "normalizers"))):
            return None
        steps = flat(splitter, "pretokenizers")
        if not all(within_word(step) or at_spaces(step) for step in steps) or not any(
            map(at_spaces, steps)
        ):
            return None
        added = backend.get_added_tokens_decoder().values()
        margin = 4 * max((len(token.content) for token in added), default=0) + 16
        bert = {"type": "BertPreTokenizer"}, "BertNormalizer"
        if (splitter, normalizer.get("type")) != bert:
            return cls(WORD_END, margin)
        ends = IDEOGRAPH_END if normalizer["handle_chinese_chars"] else BERT_END
        return cls(ends, margin, runs(backend, margin))

    def few(self, max_length: int) -> int:
        """The number of characters below which a text is not shortened, for so many tokens."""
        return PER_TOKEN * max_length + LEAST + self.margin

    def __call__(self, text: str, max_length: int, count: Callable[[str], int]) -> str:
        """A beginning of the text with the same first max_length tokens, or the text.

        count gives the number of tokens of a text, without special ones.
        """
        size, enough = self.few(max_length), max_length + TOKENS_PER_CHARACTER * self.margin
        while size < len(text):
            end = self.last_end(text, size)
            certain = self.last_end(text, end - self.margin) if end else 0
            if certain and count(text[:certain]) >= enough:
                return text[:end]
            size *= GROWTH
        return text

    def without_runs(self, text: str, max_length: int) -> str:
        """A text with the same tokens but other offsets, in which very long runs are shortened."""
        size = self.few(max_length)
        if self.runs is None or len(text) <= size or self.last_end(text, size):
            return text
        return self.runs.sub(r"\1", text)

    def last_end(self, text: str, before: int) -> int:
        """The last index up to `before` where the text may be cut; 0 if there is none near."""
        last = 0
        for match in self.ends.finditer(text, max(before - LEAST, 0), max(before, 0)):
            last = match.start()
        return last


def runs(backend: tokenizers.Tokenizer, margin: int) -> re.Pattern[str] | None:
    """A pattern of long runs of letters or spaces whose first characters (group 1) replace them.

    None where an added token could occur inside a run.
    """
    longest = getattr(backend.model, "max_input_chars_per_word", None)
    inside = re.compile(f"(?:{WORD_RUN})+|(?:{SPACE_RUN})+")
    added = backend.get_added_tokens_decoder().values()
    if longest is None or any(inside.fullmatch(token.content) for token in added):
        return None
    least = longest + margin
    kinds = [rf"{run}{{{least}}}(?={run})" for run in (WORD_RUN, SPACE_RUN)]
    rest = [rf"(?<={run}){run}+" for run in (WORD_RUN, SPACE_RUN)]
    return re.compile(f"({'|'.join(kinds)})(?:{'|'.join(rest)})")


def state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as a dict, in the form of tokenizer.json."""
    return {} if part is None else json.loads(part.__getstate__())


def flat(part: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The steps of a part in order, with nested sequences (under key) flattened."""
    if part.get("type") == "Sequence":
        return [step for inner in part[key] for step in flat(inner, key)]
    return [part] if part else []


def is_local(step: dict[str, Any]) -> bool:
    """Whether a normaliser depends on no more than a character and its combining marks."""
    return step["type"] in LOCAL_NORMALIZERS or ONE_SPACE.items() <= step.items()


def at_spaces(step: dict[str, Any]) -> bool:
    """Whether a word ends at every space, whatever follows the space."""
    kind = step["type"]
    return (
        kind in AT_SPACES
        or (kind == "Metaspace" and step.get("split") is True)
        or (kind == "ByteLevel" and step.get("use_regex") is True)
    )


def within_word(step: dict[str, Any]) -> bool:
    """Whether a step depends on one word alone."""
    return step["type"] in WITHIN_WORDS or step["type"] == "ByteLevel"
