"""Documents in the order of their scores for a query, in the form of sentence-transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from jaxbert.arguments import as_list, flag, integer
from jaxbert.text.prompts import check_str


@dataclass(frozen=True)
class Ranking:
    """The checked arguments of one call of rank."""

    documents: list[Any]
    keep: int  # the number of documents in the answer, at most
    with_text: bool

    @classmethod
    def of(
        cls, query: str, documents: Sequence[str], top_k: int | None, return_documents: bool
    ) -> Self:
        """Check the arguments. Raises InputTypeError and InputError."""
        check_str(query, "query")
        texts = as_list(documents, "documents")
        keep = len(texts) if top_k is None else integer(top_k, "top_k", 1)
        return cls(texts, keep, flag(return_documents, "return_documents"))

    def by(self, scores: np.ndarray) -> list[dict[str, Any]]:
        """{"corpus_id", "score"} of each document by falling score [n], with "text" if asked for.

        Documents of equal score keep their order.
        """
        order = np.argsort(-scores, kind="stable")[: self.keep]
        return [
            {"corpus_id": int(i), "score": float(scores[i])}
            | ({"text": self.documents[i]} if self.with_text else {})
            for i in order
        ]
