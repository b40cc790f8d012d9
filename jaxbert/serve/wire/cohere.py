"""POST /v2/embed and /v1/embed as Cohere has them.

Source: Cohere's API reference (Embed API v2 and v1) and its Python client's response classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.serve.wire.keys import key
from jaxbert.serve.wire.kinds import Choice, Choices, Harmless, Text, Texts, Whole
from jaxbert.serve.wire.vectors import PRECISIONS, encoded

KINDS = ("search_document", "search_query", "classification", "clustering")
TRUNCATE = ("NONE", "START", "END")
ENCODINGS = tuple(PRECISIONS)


@dataclass(frozen=True)
class EmbedV2:
    """The body of POST /v2/embed; priority orders Cohere's own queue and changes no vector."""

    texts: tuple[str, ...] = key(Texts(bare=False))
    model: str = key(Text())
    input_type: str = key(Choice(KINDS))
    embedding_types: tuple[str, ...] = key(Choices(ENCODINGS, len(ENCODINGS)), ("float",))
    output_dimension: int | None = key(Whole(1), None)
    max_tokens: int | None = key(Whole(1), None)
    truncate: str = key(Choice(TRUNCATE), "END")
    priority: Any = key(Harmless(), None)


@dataclass(frozen=True)
class EmbedV1:
    """The body of POST /v1/embed, whose answer is a bare list where no encoding is named."""

    texts: tuple[str, ...] = key(Texts(bare=False))
    model: str | None = key(Text(), None)
    input_type: str | None = key(Choice(KINDS), None)
    embedding_types: tuple[str, ...] | None = key(Choices(ENCODINGS, len(ENCODINGS)), None)
    truncate: str = key(Choice(TRUNCATE), "END")


def meta(version: str, tokens: int) -> dict[str, Any]:
    """The "meta" of an answer: the version of the API, and the tokens that were embedded."""
    return {
        "api_version": {"version": version},
        "billed_units": {"input_tokens": tokens},
        "tokens": {"input_tokens": tokens},
    }


def response(
    number: str, version: str, rows: Mapping[str, np.ndarray], texts: Sequence[str], tokens: int
) -> dict[str, Any]:
    """The answer by types: rows [n, d] for each encoding that was asked for; number is its id."""
    found = {encoding: encoded(own, encoding) for encoding, own in rows.items()}
    return {
        "id": number,
        "response_type": "embeddings_by_type",
        "embeddings": found,
        "texts": list(texts),
        "meta": meta(version, tokens),
    }


def response_floats(
    number: str, rows: np.ndarray, texts: Sequence[str], tokens: int
) -> dict[str, Any]:
    """The answer of /v1/embed where no encoding was named: a list of lists of numbers."""
    return {
        "id": number,
        "response_type": "embeddings_floats",
        "embeddings": encoded(rows, "float"),
        "texts": list(texts),
        "meta": meta("1", tokens),
    }
