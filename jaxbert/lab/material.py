"""Texts -> rows of symbols to train on, and longer pieces of others to evaluate on."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from jaxbert.checkpoint import hub
from jaxbert.checkpoint.sentence_transformers.modules_json import transformer_folder
from jaxbert.corpus.fields import Reading
from jaxbert.errors import InputError
from jaxbert.text.special_tokens import mask_word
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.texts import OnBadRow, read_texts

# The symbols before the characters: the mask, what stands at both ends of a row, all others.
MASK, BEFORE, BEHIND, OTHER = range(4)
# A character that is rarer than this share of all is "other".
RAREST = 1e-5
# The share of the texts that is kept apart, at most.
APART = 0.1


class Symbols(NamedTuple):
    """What a model reads: how many symbols there are, the special ones, and a text's own."""

    size: int
    mask: int
    before: int
    behind: int
    encode: Callable[[str], np.ndarray]  # [t] int32, without special ones


def characters(texts: Iterable[str]) -> Symbols:
    """A symbol for each character of these texts that is not rare."""
    counts = Counter(chain.from_iterable(texts))
    least = RAREST * counts.total()
    ids = {c: i for i, c in enumerate(sorted(c for c in counts if counts[c] >= least), OTHER + 1)}

    def encode(text: str) -> np.ndarray:
        return np.array([ids.get(c, OTHER) for c in text], np.int32)

    return Symbols(OTHER + 1 + len(ids), MASK, BEFORE, BEHIND, encode)


def tokens(name: str) -> Symbols:
    """The tokens of a model's tokenizer, from a folder or the hub."""
    folder = transformer_folder(hub.resolve(name))
    tokenizer = Tokenizer.from_folder(folder)
    backend = tokenizer.backend
    mask = backend.token_to_id(mask_word(backend, folder, ()))
    ends = tokenizer([""])[0]
    if len(ends) != 2:
        raise InputError(
            f"{name} puts {len(ends)} special tokens around a text, where 2 are needed; name "
            "another tokenizer"
        )

    def encode(text: str) -> np.ndarray:
        return tokenizer([text])[0][1:-1]

    size = backend.get_vocab_size(with_added_tokens=True)
    return Symbols(size, int(mask or 0), int(ends[0]), int(ends[1]), encode)


class Material(NamedTuple):
    """Rows [r, length] to train on, and pieces [p, longest] of texts that training never sees."""

    symbols: Symbols
    rows: np.ndarray
    pieces: np.ndarray

    @property
    def sha256(self) -> str:
        """The sum of all symbols."""
        digest = hashlib.sha256(str(self.symbols[:4]).encode())
        for own in (self.rows, self.pieces):
            digest.update(np.ascontiguousarray(own).tobytes())
        return digest.hexdigest()

    @property
    def commonest(self) -> float:
        """The share of the most common symbol in the pieces: what a guess without reading gets."""
        return float(np.bincount(self.pieces.ravel()).max() / self.pieces.size)


def python_topics() -> list[str]:
    """The help texts of Python's language reference, which come with every Python."""
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def read(inputs: Sequence[str], kind: str | None, text_field: str) -> list[str]:
    """The texts of files, or Python's own where none are named."""
    if not inputs:
        return python_topics()
    reading = Reading(kind, text_field, "")
    return [own.text for own in read_texts(inputs, reading, OnBadRow())]


def apart(texts: Sequence[str], enough: int) -> tuple[list[str], list[str]]:
    """The texts to train on, and the last ones, of `enough` characters or a tenth of all.

    Raises InputError for less than two texts.
    """
    if len(texts) < 2:
        raise InputError(
            f"there is {len(texts)} text, and training and evaluation need different ones; give "
            "more texts, or others with --evaluate"
        )
    most = min(enough, APART * sum(map(len, texts)))
    taken, number = 0, len(texts)
    while number > 1 and taken < most:
        number -= 1
        taken += len(texts[number])
    return list(texts[:number]), list(texts[number:])


def cut(symbols: Symbols, texts: Iterable[str], length: int) -> np.ndarray:
    """The texts one after another, a line break behind each, as rows [r, length]."""
    own = [symbols.encode(f"{text}\n") for text in texts]
    joined = np.concatenate([*own, np.zeros(0, np.int32)])
    number = len(joined) // length
    return joined[: number * length].reshape(number, length)


def material(
    texts: Sequence[str],
    evaluation: Sequence[str] | None,
    tokenizer: str | None,
    length: int,
    longest: int,
    pieces: int,
) -> Material:
    """Rows of all texts but those kept apart, and at most so many pieces of these.

    evaluation are texts to be kept apart; None: the last of the others. What is equal to one of
    them is not trained on. Raises InputError for too few texts.
    """
    if evaluation is None:
        # A token has several characters.
        many = 8 if tokenizer else 1
        seen, kept = apart(texts, (pieces + 1) * longest * many)
    else:
        seen, kept = list(texts), list(evaluation)
    secret = set(kept)
    seen = [text for text in seen if text not in secret]
    symbols = characters(seen) if tokenizer is None else tokens(tokenizer)
    rows, whole = cut(symbols, seen, length), cut(symbols, kept, longest)[:pieces]
    if not len(whole):
        raise InputError(
            f"the texts that are kept apart have less than {longest:,} symbols, and one piece "
            "takes as many; give more texts, others with --evaluate, or shorter --lengths"
        )
    return Material(symbols, rows, whole)
