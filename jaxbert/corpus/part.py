"""One part of a run in memory: its rows, their vectors as they come, and the rows without one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxbert.corpus.columns import Columns
from jaxbert.corpus.fields import BadRow, Row


@dataclass
class Part:
    """The rows of one part, and their vectors as they come."""

    number: int
    first: int = 0  # the number of its first row in the input
    rows: list[Row] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of each in the input
    rejects: dict[int, BadRow] = field(default_factory=dict)  # by their places in the input
    refused: dict[int, str] = field(default_factory=dict)  # why, by their places among the rows
    size: int = 0  # bytes of the good rows as they were read
    seen: Any = field(default_factory=hashlib.sha256)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    missing: int = 0

    @property
    def count(self) -> int:
        """Rows of the input, bad ones included."""
        return len(self.rows) + len(self.rejects)

    @property
    def sha256(self) -> str:
        """The hash of all rows so far, bad ones included, in hexadecimal."""
        return str(self.seen.hexdigest())

    def add(self, row: Row | BadRow) -> None:
        """Append a row; its bytes are hashed, each with its length before it."""
        self.seen.update(len(row.raw).to_bytes(8, "little"))
        self.seen.update(row.raw)
        if isinstance(row, BadRow):
            self.rejects[self.first + self.count] = row._replace(raw=b"")
            return
        self.places.append(self.first + self.count)
        self.rows.append(row._replace(raw=b""))
        self.size += len(row.raw)

    def forget_text(self, place: int) -> None:
        """Drop the text of one row, which may be long, while its part waits for vectors."""
        self.rows[place] = self.rows[place]._replace(text="")

    def expect(self, width: int) -> None:
        """Make room for a vector of this width for each row."""
        self.vectors = np.zeros((len(self.rows), width), np.float32)
        self.missing = len(self.rows)

    def store(self, places: np.ndarray, vectors: np.ndarray) -> None:
        """Put vectors [n, w] in the places [n] of their rows."""
        self.vectors[places] = vectors
        self.missing -= len(places)

    def refuse(self, place: int, reason: str) -> None:
        """Go without the vector of one row."""
        self.refused[place] = reason
        self.missing -= 1

    @property
    def kept(self) -> list[int]:
        """The places of the rows that have vectors."""
        return [place for place in range(len(self.rows)) if place not in self.refused]

    def columns(self, carry: Sequence[str], vectors: np.ndarray) -> Columns:
        """The rows that are kept, column by column; a row without an id has its place as id."""
        kept = self.kept
        rows = [self.rows[i] for i in kept]
        return Columns(
            ids=[
                self.places[i] if row.id is None else row.id
                for i, row in zip(kept, rows, strict=True)
            ],
            texts=[row.text for row in rows],
            carried={name: [row.carried[i] for row in rows] for i, name in enumerate(carry)},
            vectors=vectors,
        )

    def rejected(self) -> list[dict[str, str]]:
        """The rows of the input without a vector, each with its place and the reason, in order."""
        bad = {place: (row.where, row.reason) for place, row in self.rejects.items()}
        bad |= {self.places[i]: (self.rows[i].where, why) for i, why in self.refused.items()}
        return [{"where": where, "reason": reason} for _, (where, reason) in sorted(bad.items())]
