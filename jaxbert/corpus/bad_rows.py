"""What a run does about a row that it cannot use: it goes on without the row, or ends."""

from collections.abc import Callable
from typing import Protocol

from jaxbert.corpus.fields import BadRow
from jaxbert.corpus.part import Part
from jaxbert.corpus.sifting import reason_of
from jaxbert.errors import ComputationError, InputError, JaxbertError


class BadRows(Protocol):
    """Is told of each row that cannot be used; raises where the run ends with it."""

    def unreadable(self, row: BadRow) -> None:
        """A row that has no usable text."""

    def refused(self, part: Part, place: int, error: JaxbertError) -> None:
        """A row, by its place in its part, that cannot be embedded or written."""


def ignore(sentence: str) -> None:
    """Takes a sentence and does nothing with it."""


class SkipBadRows:
    """Leaves such rows out of the output."""

    def __init__(self, tell: Callable[[str], object] = ignore) -> None:
        """tell is given a sentence about each."""
        self.tell = tell

    def unreadable(self, row: BadRow) -> None:
        """Say that the row is left out."""
        self.tell(f"{row.where} {row.reason}")

    def refused(self, part: Part, place: int, error: JaxbertError) -> None:
        """Mark the row as one without a vector."""
        reason = reason_of(error)
        self.tell(f"{part.rows[place].where} {reason}")
        part.refuse(place, reason)


class FailOnBadRows:
    """Ends the run at the first of them."""

    def unreadable(self, row: BadRow) -> None:
        """Raise InputError, which names the row."""
        raise InputError(
            f"{row.where} {row.reason}; correct it and give the same command again, or leave such "
            "rows out with --on-bad-row skip"
        )

    def refused(self, part: Part, place: int, error: JaxbertError) -> None:
        """Raise InputError, or ComputationError for a vector of no use; each names the row."""
        where = part.rows[place].where
        if isinstance(error, ComputationError):
            more = error.__reduce__()[1][2:]
            raise ComputationError(where, part.places[place], *more) from error
        raise InputError(
            f"{where} {reason_of(error)}; leave such rows out with --on-bad-row skip"
        ) from error
