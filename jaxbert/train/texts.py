"""Files -> the texts to train on, by the readers that corpus runs have."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from jaxbert.corpus.bad_rows import ignore
from jaxbert.corpus.fields import BadRow, Cell, Reading, Row
from jaxbert.corpus.rows import Source
from jaxbert.errors import InputError
from jaxbert.process import interrupts

Tell = Callable[[str], object]


class Texts(NamedTuple):
    """A row to train on: where it stands, its text, and the texts that go with it."""

    where: str
    text: str
    others: tuple[str, ...] = ()
    score: float | None = None


def plain(texts: Iterable[str]) -> Iterator[Texts]:
    """Texts that come from no file, known by their number."""
    return (Texts(f"text {i}", text) for i, text in enumerate(texts))


@dataclass
class OnBadRow:
    """What is done about a row of no use: an InputError, or it is left out and told of."""

    skip: bool = False
    tell: Tell = ignore
    skipped: int = 0

    def __call__(self, where: str, reason: str) -> None:
        """Leave the row out, or raise; f"{where} {reason}" is a sentence."""
        if not self.skip:
            raise InputError(
                f"{where} {reason}; correct it, or leave such rows out with --on-bad-row skip"
            )
        self.skipped += 1
        self.tell(f"{where} {reason}")


def read_rows(
    inputs: Sequence[str], reading: Reading, bad: OnBadRow, without: frozenset[str] = frozenset()
) -> Iterator[Row]:
    """The rows of files whose text is not blank.

    Texts of `without` are those of evaluation data, which is never trained on: they are left out.
    """
    source = Source(inputs, reading)
    source.check()
    for row in source.rows():
        interrupts.check()
        if isinstance(row, BadRow):
            bad(row.where, row.reason)
        elif row.text.strip() and row.text not in without:
            yield row


def read_texts(
    inputs: Sequence[str], reading: Reading, bad: OnBadRow, without: frozenset[str] = frozenset()
) -> Iterator[Texts]:
    """The texts of files; blank ones, such as the lines between paragraphs, are passed over."""
    for row in read_rows(inputs, reading, bad, without):
        yield Texts(row.where, row.text)


# --- pairs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairFields:
    """The names of the fields of a pair; negative holds a text, or a list of them.

    None takes none; a field of scores must be asked for.
    """

    anchor: str = "anchor"
    positive: str = "positive"
    negative: str | None = "negative"
    score: str | None = None


def read_pairs(
    inputs: Sequence[str],
    kind: str | None,
    names: PairFields,
    bad: OnBadRow,
    without: frozenset[str] = frozenset(),
) -> Iterator[Texts]:
    """Anchor, positive and negatives of each row, all with the same number of negatives.

    Tables need no column of negatives; a row of JSONL that lacks the field has none.
    """
    usual: int | None = None
    carry = (names.positive,) if names.score is None else (names.positive, names.score)
    reading = with_negatives(inputs, Reading(kind, names.anchor, "", carry), names)
    for row in read_rows(inputs, reading, bad, without):
        try:
            own = pair_of(row, dict(zip(reading.carry, row.carried, strict=True)), names)
        except ValueError as error:
            bad(row.where, str(error))
            continue
        negatives = len(own.others) - 1
        usual = negatives if usual is None else usual
        if negatives != usual:
            raise InputError(
                f"{row.where} has {negatives} negatives, and the rows before it {usual}; give all "
                "rows the same number"
            )
        if without.isdisjoint(own.others):
            yield own


def with_negatives(inputs: Sequence[str], reading: Reading, names: PairFields) -> Reading:
    """The reading with the field of negatives, where tables have such a column."""
    if names.negative is None:
        return reading
    more = replace(reading, carry=(*reading.carry, names.negative))
    with suppress(InputError):
        Source(inputs, more).check()
        return more
    return reading


def pair_of(row: Row, carried: dict[str, Any], names: PairFields) -> Texts:
    """A row as a pair; ValueError says what is no text or no score."""
    held = {name: v.value if isinstance(v, Cell) else v for name, v in carried.items()}
    name = names.negative or ""
    negative = held.get(name)
    negatives = negative if isinstance(negative, list) else [negative] * (negative is not None)
    others = [text(held[names.positive], names.positive)]
    others += [text(own, name) for own in negatives]
    score = None if names.score is None else number(held[names.score], names.score)
    return Texts(row.where, row.text, tuple(others), score)


def text(value: Any, name: str) -> str:
    """The value, if it is a text that is not blank; else ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"holds no text in {name!r}")
    return value


def number(value: Any, name: str) -> float:
    """The value as a finite float, also from its digits; else ValueError."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"holds no number in {name!r}")
    return found
