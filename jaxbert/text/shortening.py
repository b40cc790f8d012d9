"""How much of a long text decides about its first tokens, for tokenizers where that can be known.

A text is cut at a place where every step of the tokenizer begins anew: before a space behind a
word. What stands before such a place has the same tokens whatever comes behind it, but for an
added token that lies across it; so a margin behind the last token that counts is kept.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tokenizers

# Normalisers that look at a character and at what is joined to it, never across a space.
LOCAL_NORMALIZERS = frozenset(
    "BertNormalizer Lowercase NFC NFD NFKC NFKD Nmt StripAccents ByteLevel Prepend Strip "
    "Precompiled".split()
)
# The one pattern whose replacement is local too: spaces become one, as XLM-R has it.
ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}}
# Pre-tokenizers that end a word at every space (of those, Metaspace and ByteLevel only as below),
# and those that cut words further.
AT_SPACES = frozenset("BertPreTokenizer Whitespace WhitespaceSplit".split())
WITHIN_WORDS = frozenset("Punctuation Digits UnicodeScripts".split())
# Where a word ends for all of these; where BERT's splitter ends one too, before punctuation, and
# before ideographs if the normaliser sets them apart.
WORD_END = re.compile(r"(?<=\S)(?= )")
BERT_END = re.compile(r"(?<=\S)(?=[ \n!-/:-@\[-`{-~])")
IDEOGRAPH_END = re.compile(r"(?<=\S)(?=[ \n!-/:-@\[-`{-~\u4e00-\u9fff])")
# Letters and digits that BERT's normaliser keeps as parts of one word (ideographs it sets apart),
# and spaces: a word of more than so many characters is one unknown token, and spaces are none.
WORD_RUN = r"[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
SPACE_RUN = r"[ \t\n\r]"
# Characters that a token mostly has at most, characters that are always left, and the growth.
PER_TOKEN, LEAST, GROWTH = 16, 4096, 4
# Tokens that a character can have: one for each of its bytes.
TOKENS_PER_CHARACTER = 4


@dataclass(frozen=True)
class Shortening:
    """Cuts texts for one tokenizer."""

    ends: re.Pattern[str]  # where a text may be cut
    margin: int  # characters that an added token, and the spaces it takes, may reach across
    runs: re.Pattern[str] | None = None  # runs behind whose first characters nothing counts

    @classmethod
    def of(cls, backend: tokenizers.Tokenizer) -> "Shortening | None":
        """That of a tokenizer; None if one of its steps may look farther than a space."""
        normalizer, splitter = state(backend.normalizer), state(backend.pre_tokenizer)
        if not all(map(is_local, flat(normalizer, "normalizers"))):
            return None
        steps = flat(splitter, "pretokenizers")
        if not all(known(step) or at_spaces(step) for step in steps) or not any(
            map(at_spaces, steps)
        ):
            return None
        added = backend.get_added_tokens_decoder().values()
        margin = 4 * max((len(own.content) for own in added), default=0) + 16
        bert = {"type": "BertPreTokenizer"}, "BertNormalizer"
        if (splitter, normalizer.get("type")) != bert:
            return cls(WORD_END, margin)
        ends = IDEOGRAPH_END if normalizer["handle_chinese_chars"] else BERT_END
        return cls(ends, margin, runs(backend, margin))

    def few(self, max_length: int) -> int:
        """Characters that are tokenised as they are, for so many tokens."""
        return PER_TOKEN * max_length + LEAST + self.margin

    def __call__(self, text: str, max_length: int, count: Callable[[str], int]) -> str:
        """A beginning of the text with the same first max_length tokens, or the text.

        count gives the tokens of a text, special ones left out.
        """
        size, enough = self.few(max_length), max_length + TOKENS_PER_CHARACTER * self.margin
        while size < len(text):
            end = self.last_end(text, size)
            sure = self.last_end(text, end - self.margin) if end else 0
            if sure and count(text[:sure]) >= enough:
                return text[:end]
            size *= GROWTH
        return text

    def without_runs(self, text: str, max_length: int) -> str:
        """The text with the same tokens, other offsets, and little of an endless word or spaces."""
        size = self.few(max_length)
        if self.runs is None or len(text) <= size or self.last_end(text, size):
            return text
        return self.runs.sub(r"\1", text)

    def last_end(self, text: str, before: int) -> int:
        """The last place before that one where the text may be cut; 0 if there is none near."""
        last = 0
        for found in self.ends.finditer(text, max(before - LEAST, 0), max(before, 0)):
            last = found.start()
        return last


def runs(backend: tokenizers.Tokenizer, margin: int) -> re.Pattern[str] | None:
    """Runs of letters, and of spaces, of which the first characters (group 1) do for all.

    None where an added token could be found inside of them.
    """
    longest = getattr(backend.model, "max_input_chars_per_word", None)
    inside = re.compile(f"(?:{WORD_RUN})+|(?:{SPACE_RUN})+")
    added = backend.get_added_tokens_decoder().values()
    if longest is None or any(inside.fullmatch(own.content) for own in added):
        return None
    least = longest + margin
    kinds = [rf"{run}{{{least}}}(?={run})" for run in (WORD_RUN, SPACE_RUN)]
    rest = [rf"(?<={run}){run}+" for run in (WORD_RUN, SPACE_RUN)]
    return re.compile(f"({'|'.join(kinds)})(?:{'|'.join(rest)})")


def state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json has it."""
    return {} if part is None else json.loads(part.__getstate__())


def flat(part: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The steps of a part, those of sequences one after the other."""
    if part.get("type") == "Sequence":
        return [step for own in part[key] for step in flat(own, key)]
    return [part] if part else []


def is_local(step: dict[str, Any]) -> bool:
    """Whether a normaliser looks at no more than a character and what is joined to it."""
    return step["type"] in LOCAL_NORMALIZERS or ONE_SPACE.items() <= step.items()


def at_spaces(step: dict[str, Any]) -> bool:
    """Whether a word ends at every space, whatever stands behind it."""
    kind = step["type"]
    return (
        kind in AT_SPACES
        or (kind == "Metaspace" and step.get("split") is True)
        or (kind == "ByteLevel" and step.get("use_regex") is True)
    )


def known(step: dict[str, Any]) -> bool:
    """Whether a step looks at one word alone."""
    return step["type"] in WITHIN_WORDS or step["type"] == "ByteLevel"
