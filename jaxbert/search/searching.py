"""The k best of a corpus for each query: exact, a piece of the corpus at a time.

Between pieces only the best [q, k] are kept, so that memory does not grow with the corpus. The
largest arrays are a piece [c, d] and the scores [q, c] of some queries with it; `sizes` holds them
within a budget.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbert.arguments import choice, integer
from jaxbert.checkpoint.sentence_transformers.settings import SIMILARITIES
from jaxbert.errors import InputError
from jaxbert.inference.similarity import similarity as score_matrix
from jaxbert.process.backend import backend, computing
from jaxbert.search.checks import (
    bits_of,
    check_scores,
    check_widths,
    floats_of,
    in_float32,
    rows_of,
)
from jaxbert.search.comparing import merged, prepared
from jaxbert.search.first_look import AHEAD, MULTIPLE, FirstLook, kept_for, rows_for, worth_it
from jaxbert.search.host import FEW, TRIED, HostSearch, piece_rows, rounds_alike
from jaxbert.search.stored import Floats

# Bytes of the arrays that are made for a piece of the corpus and some queries.
BUDGET = 128 * 2**20
# Rows of a piece, for few queries and for many, and queries at a time, where the budget allows
# them: measured on a CPU (notes/bench/search.py), where longer pieces leave the caches.
PIECE, LONG_PIECE, QUERIES = 2048, 4096, 1024
# Candidates per answer where vectors in fewer bits are searched and then compared in float32.
OVERSAMPLE = 4
# Bytes for a query and a row on the device: the score, and twice as much while the best are chosen.
PAIR = 12
# The same for a first look: the score, a copy of it, those that are computed ahead, the choice.
LOOK = 4 * (2 + AHEAD + 1)
# Bytes of a byte of packed bits, of a query and a row: what differs, and its bits, in int32.
DIFFERING = 5


def sizes(
    queries: int, width: int, budget: int, piece: int | None = None, *, k: int = 0, pair: int = PAIR
) -> tuple[int, int]:
    """(queries at a time, rows of a piece), powers of two whose arrays fit the budget.

    piece is the most rows, None those that suit a device; k and pair are those of `memory`. Raises
    InputError for a budget that not even a query with 8 rows fits.
    """
    q = min(QUERIES, 1 << max(0, queries - 1).bit_length())
    c = piece or (PIECE if q < QUERIES // 4 else LONG_PIECE)
    while memory(q, c, width, k, pair) > budget and (q > 1 or c > 8):
        # Fewer rows of a piece make the lists of the best no shorter.
        fewer = q > 1 and (q >= c or c <= 8 or q * answers(k, c) > budget // 2)
        q, c = (q // 2, c) if fewer else (q, c // 2)
    if memory(q, c, width, k, pair) > budget:
        raise InputError(
            f"budget is {budget} bytes, and vectors of width {width} need "
            f"{memory(q, c, width, k, pair)} for {k} answers; raise it"
        )
    return q, c


def memory(queries: int, piece: int, width: int, k: int = 0, pair: int = PAIR) -> int:
    """Bytes of queries, of a piece twice (as read, and prepared), of scores, and of the k best.

    pair is in bytes, for each query with each row of the piece: its score and what is made of it.
    """
    vectors = 4 * (queries * width + 2 * piece * width)
    return vectors + pair * queries * piece + queries * answers(k, piece)


def answers(k: int, piece: int) -> int:
    """Bytes of a query's lists of scores and indices while a piece's best are put among them.

    The best so far and those that come of it, and twice (as they are, and sorted) both together.
    """
    return 8 * (2 * k + 2 * (k + min(k, piece)))


class Search:
    """Queries that look at one piece of a corpus after another; `result` is what they found."""

    def __init__(self, queries: Any, kind: str, k: int, budget: int = BUDGET) -> None:
        """queries [q, d] as they are compared, kind a similarity, or "bits" for packed uint8.

        Raises InputTypeError and InputError as `top_k` does.
        """
        self.of_bits = choice(kind, "kind", (*SIMILARITIES, "bits")) == "bits"
        k, budget = integer(k, "k", 1), integer(budget, "budget", 1, 2**62)
        queries = rows_of(queries, "queries")
        queries = (bits_of if self.of_bits else floats_of)(queries, "queries")
        self.width = queries.shape[1]  # of the vectors as they are given
        # To count the differing bits of a pair takes longer than its product, once a piece is
        # written out as numbers, which few queries are not worth.
        many_bits = kind == "bits" and len(queries) > FEW
        self.kind, self.k, self.first = "bits, by products" if many_bits else kind, k, 0
        self.number = len(queries)
        width = queries.shape[1] * (8 if many_bits else 1)
        pair = PAIR + (DIFFERING * width if self.kind == "bits" else 0)
        self.at_once, self.rows = sizes(self.number, width, budget, k=k, pair=pair)
        with computing():
            blocks = range(0, self.number, self.at_once)
            self.blocks = [
                prepared(self.kind, filled(queries[i : i + self.at_once], self.at_once))
                for i in blocks
            ]
            nothing = jnp.full((self.at_once, k), -jnp.inf), jnp.full((self.at_once, k), -1)
            self.found: list[tuple[jax.Array, jax.Array]] = [nothing for _ in self.blocks]

    def look(self, piece: Any) -> None:
        """Compare with the next rows [n, d] of the corpus, however many.

        Raises InputTypeError and InputError as `top_k` does.
        """
        piece = rows_of(piece, "piece")
        check_widths(self.width, piece.shape[1])
        piece = bits_of(piece, "piece") if self.of_bits else in_float32(piece)
        for start in range(0, len(piece), self.rows):
            some = piece[start : start + self.rows]
            with computing():
                c = prepared(self.kind, filled(some, self.rows))
                for i, q in enumerate(self.blocks):
                    self.found[i] = merged(self.kind, self.found[i], q, c, self.first, len(some))
                # The next piece is read while this one is compared, and no third one waits.
                for scores, _ in self.found[-1:]:
                    scores.block_until_ready()
            self.first += len(some)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """scores float32 [q, k] and indices int64 [q, k], k being at most the rows looked at."""
        k = min(self.k, self.first)
        if not self.found:
            return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
        scores, indices = (
            np.concatenate([np.asarray(block[i]) for block in self.found])[: self.number, :k]
            for i in (0, 1)
        )
        check_scores(scores, indices)
        return scores, indices.astype(np.int64)


def search_for(queries: np.ndarray, kind: str, k: int, budget: int = BUDGET) -> Search | HostSearch:
    """The search that is faster for these queries: on the device, or on the host by NumPy."""
    number, width = queries.shape
    if kind in HostSearch.kinds and on_host(number, width):
        at_once, rows = sizes(number, width, budget, piece_rows(number))
        # The host needs no indices of all scores: their share is for the choice of the best.
        spare = budget - memory(at_once, rows, width) + 4 * at_once * rows
        return HostSearch(queries, kind, k, at_once, rows, spare)
    return Search(queries, kind, k, budget)


def first_look_for(
    queries: np.ndarray, corpus: Floats, kind: str, k: int, budget: int = BUDGET
) -> FirstLook | None:
    """The first look at a corpus where it saves time; None where it does not, and without room."""
    (number, width), kept = queries.shape, min(kept_for(k), len(corpus))
    possible = kind in HostSearch.kinds and worth_it(number, len(corpus), width)
    if not possible or backend() != "cpu":
        return None
    rows, some = rows_for(kept), (QUERIES, QUERIES // 4, MULTIPLE)
    at_once = next((q for q in some if memory(q, rows, width, pair=LOOK) <= budget), None)
    if rows > LONG_PIECE or at_once is None:
        return None
    spare = budget - memory(at_once, rows, width, pair=LOOK - 4)
    return FirstLook(queries, kind, kept, at_once, rows, spare)


def on_host(queries: int, width: int) -> bool:
    """Whether NumPy searches for so many queries of a width, where it can."""
    tried = next((number for number in TRIED if queries <= number), TRIED[-1])
    return (queries <= FEW or backend() == "cpu") and rounds_alike(tried, width)


def filled(rows: np.ndarray, number: int) -> np.ndarray:
    """The rows with zeros behind them, so that shapes are few."""
    if len(rows) == number:
        return rows
    return np.concatenate([rows, np.zeros((number - len(rows), rows.shape[1]), rows.dtype)])


def top_k(
    queries: Any,
    corpus: Any,
    k: int,
    *,
    similarity: str = "cosine",
    rescore: Any = None,
    oversample: int = OVERSAMPLE,
    budget: int = BUDGET,
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar rows of a corpus: scores float32 [q, k] falling, indices int64 [q, k].

    queries are [q, d] or [d]. corpus is an array [n, d] of floats or whole numbers, or Bytes or
    Bits of it; a np.memmap is read a piece at a time. Exact: the answer of a full sort of the
    float32 scores; equal scores by the lower index. k beyond n is n. similarity is cosine, dot,
    euclidean or manhattan, the distances negated; Bits have that of their signs, d - 2 differing,
    where d is the number of features.
    With rescore, the vectors [n, d] of the corpus in floats, the oversample * k best are compared
    again in float32 by the similarity: that is exact in the scores, not in what was left out.
    budget is in bytes, for the arrays on the device beside all queries and all answers; what takes
    the most of it are a piece's scores, and for a large k the lists of some queries' best. Raises
    InputTypeError, InputError, also for NaN and infinity.
    """
    asked = rows_of(queries, "queries")
    stored = corpus if isinstance(corpus, Floats) else Floats(corpus)
    choice(similarity, "similarity", SIMILARITIES)
    k, budget = integer(k, "k", 1), integer(budget, "budget", 1, 2**62)
    oversample = integer(oversample, "oversample", 1)
    full = None if rescore is None else rows_of(rescore, "rescore")
    if full is not None:
        check_widths(asked.shape[1], full.shape[1])
        if len(full) != len(stored):
            raise InputError(f"rescore has {len(full)} vectors, and the corpus {len(stored)}")
    wanted = min(k, len(stored)) if full is None else min(k * oversample, len(stored))
    compared = stored.queries(asked)
    if not wanted or not len(asked):
        empty = (len(asked), min(k, len(stored)))
        return np.zeros(empty, np.float32), np.zeros(empty, np.int64)
    scores, indices = found(compared, stored, stored.comparison or similarity, wanted, budget)
    if full is None:
        return scores - np.float32(stored.filled(asked)), indices
    return rescored(floats_of(asked, "queries"), full, indices, k, similarity)


def found(
    queries: np.ndarray, corpus: Floats, kind: str, k: int, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of a corpus, by a first look for those of which it is sure."""
    look = first_look_for(queries, corpus, kind, k, budget)
    if look is None:
        search = search_for(queries, kind, k, budget)
        show(corpus, search)
        return search.result()
    show(corpus, look)
    scores, rows, sure = look.answers(corpus, k)
    if not sure.all():
        search = search_for(queries[~sure], kind, k, budget)
        show(corpus, search)
        scores[~sure], rows[~sure] = search.result()
    return scores, rows


def show(corpus: Floats, search: Search | HostSearch | FirstLook) -> None:
    """Let a search look at all of a corpus."""
    for first, stop in pieces(len(corpus), search.rows):
        search.look(corpus.piece(first, stop))


def rescored(
    queries: np.ndarray, corpus: np.ndarray, candidates: np.ndarray, k: int, similarity: str
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the candidates [q, m] of each query by their similarity in float32."""
    found = [
        best_of(row, np.sort(own), corpus, k, similarity)
        for row, own in zip(queries, candidates, strict=True)
    ]
    return np.stack([scores for scores, _ in found]), np.stack([rows for _, rows in found])


def best_of(
    query: np.ndarray, rows: np.ndarray, corpus: np.ndarray, k: int, similarity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows of the k best for one query; of equal scores the lower row."""
    scores = score_matrix(query, corpus[rows], similarity)[0]
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]


def pieces(number: int, size: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pieces of so many rows."""
    for first in range(0, number, size):
        yield first, min(first + size, number)
