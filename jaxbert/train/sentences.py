"""Texts -> their sentences, and a sample of these: what a student reads in little time.

A step with short rows costs little, and a vector says most about a text of one thought.
"""

import re
from collections.abc import Iterable, Iterator

import numpy as np

from jaxbert.train.batches import permutation
from jaxbert.train.texts import Texts

# Where a sentence ends: behind . ! or ? with what closes a quotation, and at the end of a line.
END = re.compile(r"(?<=[.!?])[\"'\u2019\u201d)\]]*\s+|\n+")
# Sentences of fewer words are mostly pieces of abbreviations and numbers, as "Mrs." is.
FEWEST_WORDS = 4
# The stream of random numbers that a sample is drawn from; those of batches are 0 and above.
SAMPLE = 1 << 32


def sentences(texts: Iterable[Texts], words: int) -> Iterator[Texts]:
    """The sentences of every text, in order, longer ones in pieces of `words` words.

    Pieces of less than FEWEST_WORDS words, and those that came before, are left out.
    """
    seen: set[str] = set()
    for own in texts:
        for sentence in END.split(own.text):
            for piece in pieces(sentence, words):
                if piece not in seen:
                    seen.add(piece)
                    yield own._replace(text=piece)


def pieces(sentence: str, words: int) -> Iterator[str]:
    """Runs of `words` words, joined by single spaces; the last one may be shorter."""
    own = sentence.split()
    for first in range(0, len(own), words):
        if len(piece := own[first : first + words]) >= FEWEST_WORDS:
            yield " ".join(piece)


def sample(texts: Iterable[Texts], number: int) -> list[Texts]:
    """`number` of the texts, drawn at random, in the order in which they came.

    All of them where there are no more. The same texts give the same sample, whatever the seed of a
    run is, so that runs can share a teacher's vectors.
    """
    held = list(texts)
    chosen = np.sort(permutation(len(held), 0, 0, SAMPLE)[:number])
    return [held[i] for i in chosen]
