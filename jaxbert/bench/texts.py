"""The texts that are timed: paragraphs of Python's help, or the rows of files."""

from collections.abc import Sequence
from typing import TypeVar

from jaxbert.corpus.fields import Reading
from jaxbert.errors import InputError
from jaxbert.train.texts import OnBadRow, read_texts

Item = TypeVar("Item")


def read(inputs: Sequence[str], kind: str | None, text_field: str) -> list[str]:
    """The texts of files that are not blank, or Python's where none are named.

    Raises InputError where there is none.
    """
    if not inputs:
        return python_paragraphs()
    reading = Reading(kind, text_field, "")
    texts = [own.text for own in read_texts(inputs, reading, OnBadRow())]
    if not texts:
        raise InputError(f"{', '.join(inputs)} has no text; give files with texts")
    return texts


def python_paragraphs() -> list[str]:
    """The paragraphs of the help texts of Python's language reference, of 1 to some 300 words."""
    from pydoc_data.topics import topics

    paragraphs = (text.strip() for name in sorted(topics) for text in topics[name].split("\n\n"))
    return list(dict.fromkeys(" ".join(text.split()) for text in paragraphs if text))


def spread(items: Sequence[Item], number: int) -> list[Item]:
    """So many of the items, or all of them if fewer, taken at equal distances."""
    number = min(number, len(items))
    return [items[i * len(items) // number] for i in range(number)]
