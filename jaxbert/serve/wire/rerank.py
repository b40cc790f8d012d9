"""POST /v1/rerank, /v2/rerank and /rerank with `documents`, as Cohere and Jina have them.

Source: Cohere's API reference (Rerank API v2 and v1); Jina's documentation of /v1/rerank, whose
"usage" stands beside Cohere's "meta".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.serve.wire.errors import RequestError
from jaxbert.serve.wire.keys import key, read
from jaxbert.serve.wire.kinds import Flag, Harmless, Text, Texts, Whole
from jaxbert.serve.wire.tei import Rank, ranked


@dataclass(frozen=True)
class Rerank:
    """The body of POST /v1/rerank and /v2/rerank.

    max_tokens_per_doc is taken where it cuts nothing that the model would keep.
    """

    query: str = key(Text())
    documents: tuple[str, ...] = key(Texts(bare=False, objects=True))
    model: str | None = key(Text(), None)
    top_n: int | None = key(Whole(1), None)
    return_documents: bool = key(Flag(), False)
    max_tokens_per_doc: int | None = key(Whole(1), None)
    rank_fields: Any = key(Harmless((["text"],)), None)
    priority: Any = key(Harmless(), None)


def either(document: Any) -> Rank | Rerank:
    """TEI's request where `texts` is given, else Cohere's. Raises RequestError for both."""
    if isinstance(document, dict) and "texts" in document:
        if "documents" in document:
            raise RequestError(
                "texts and documents were both given; send one of them", param="texts"
            )
        return read(Rank, document)
    return read(Rerank, document)


def response(
    number: str,
    version: str,
    model: str,
    scores: np.ndarray,
    tokens: int,
    top: int | None,
    documents: Sequence[str] | None,
) -> dict[str, Any]:
    """{"id", "model", "results": [{"index", "relevance_score", "document"?}], "usage", "meta"}.

    scores [n]; the best `top` come first, with their documents if those are passed.
    """
    results = [
        {"index": row["index"], "relevance_score": row["score"]}
        | ({} if documents is None else {"document": {"text": documents[row["index"]]}})
        for row in ranked(scores, None)[:top]
    ]
    return {
        "id": number,
        "model": model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {
            "api_version": {"version": version},
            "billed_units": {"search_units": 1},
            "tokens": {"input_tokens": tokens},
        },
    }
