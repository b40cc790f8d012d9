"""Texts -> the tokens of queries and documents of a late-interaction model.

Source: arXiv:2004.12832, section 3.2: a marker behind [CLS], queries filled up with [MASK], no
vectors for punctuation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from jaxbert.checkpoint.late_settings import Expansion, Side
from jaxbert.errors import CheckpointError, InputError, shown
from jaxbert.text.tokenizer import SPECIAL, Tokenizer


def token_id(tokenizer: Tokenizer, words: Sequence[str], vocab_size: int, what: str) -> int:
    """The id of the first of these words that is a token. Raises CheckpointError for none."""
    for word in words:
        number = tokenizer.backend.token_to_id(word)
        if number is not None and number < vocab_size:
            return number
    raise CheckpointError(
        f"{what} is {shown(words[0])}, which is no token of the model; restore its tokenizer"
    )


@dataclass(frozen=True)
class LateTokenizer:
    """The tokens of one side, queries or documents, and which of them have a vector."""

    tokenizer: Tokenizer
    length: int
    first: int  # the tokens before the marker, which the tokenizer puts there
    marker: int | None
    skipped: tuple[int, ...]  # ids that have no vector
    expansion: tuple[int, int] | None  # the id of what fills a text up, and to how many tokens
    attended: bool  # whether the text attends to that

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, side: Side, expansion: Expansion | None, vocab_size: int
    ) -> Self:
        """Look the words of the settings up. Raises CheckpointError for those that are no tokens.

        Words to be skipped that are no tokens are left out, for none is skipped in their place.
        """
        (probe,) = tokenizer.detailed(["a"])
        marker = None
        if side.marker is not None:
            # PyLate's markers end with a space, which may belong to the token.
            words = (side.marker, side.marker.strip())
            marker = token_id(tokenizer, words, vocab_size, "the marker")
        fill = None
        if expansion is not None:
            named = SPECIAL["mask_token"] if expansion.word is None else (expansion.word,)
            fill = (
                token_id(tokenizer, named, vocab_size, "the token that fills queries up"),
                expansion.length,
            )
        ids = [tokenizer.backend.token_to_id(word) for word in side.skipped]
        return cls(
            tokenizer,
            side.length,
            int(probe.special[:1].sum()),
            marker,
            tuple(number for number in ids if number is not None),
            fill,
            expansion is not None and expansion.attended,
        )

    def with_length(self, length: int) -> Self:
        """The same for texts of up to so many tokens; a fixed length is one to fill up to too."""
        fixed = self.expansion is not None and self.expansion[1] == self.length
        fill = (self.expansion[0], length) if fixed and self.expansion else self.expansion
        if fill is not None and fill[1] > length:
            raise InputError(f"length {length} is below the {fill[1]} tokens that queries have")
        return replace(self, length=length, expansion=fill)

    @property
    def flags(self) -> bool:
        """Whether some tokens read the others and are not seen by them."""
        return self.expansion is not None and not self.attended

    def __call__(self, texts: Sequence[str], *_: Any) -> list[np.ndarray]:
        """The ids [t] of each text; with `flags` [2, t], below them 1 where nothing attends."""
        room = self.length - (self.marker is not None)
        return [self.filled(self.marked(ids)) for ids in self.tokenizer(texts, room)]

    def marked(self, ids: np.ndarray) -> np.ndarray:
        """The ids with the marker among them."""
        return ids if self.marker is None else np.insert(ids, self.first, self.marker)

    def filled(self, ids: np.ndarray) -> np.ndarray:
        """The ids, filled up where a text is to be."""
        if self.expansion is None:
            return ids
        fill, length = self.expansion
        more = max(length - len(ids), 0)
        all_ids = np.pad(ids, (0, more), constant_values=fill)
        if self.attended:
            return all_ids
        return np.stack([all_ids, np.repeat([0, 1], (len(ids), more)).astype(np.int32)])

    def kept(self, tokens: np.ndarray) -> np.ndarray:
        """Which tokens [t] of a text have a vector."""
        ids = tokens[0] if tokens.ndim == 2 else tokens
        return ~np.isin(ids, self.skipped)
