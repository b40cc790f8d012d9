"""POST /v1/embeddings: OpenAI's request, with the keys that Jina adds to it.

Source: OpenAI's openapi.yaml, CreateEmbeddingRequest and CreateEmbeddingResponse; Jina's
documentation of /v1/embeddings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.serve.wire.errors import RequestError
from jaxbert.serve.wire.keys import key
from jaxbert.serve.wire.kinds import Choice, Choices, Flag, Harmless, Ids, Inputs, Text, Whole
from jaxbert.serve.wire.vectors import encoded

ENCODINGS = ("float", "base64")
JINA_ENCODINGS = (*ENCODINGS, "binary", "ubinary")


@dataclass(frozen=True)
class Embeddings:
    """The body of POST /v1/embeddings; the keys after `user` are Jina's."""

    input: tuple[str, ...] | Ids = key(Inputs(objects=True))
    model: str | None = key(Text(), None)
    encoding_format: str | None = key(Choice(ENCODINGS), None)
    dimensions: int | None = key(Whole(1), None)
    user: Any = key(Harmless(), None)
    task: str | None = key(Text(), None)
    prompt_name: str | None = key(Text(), None)
    normalized: bool = key(Flag(), True)
    truncate: bool | None = key(Flag(), None)
    late_chunking: bool = key(Flag(), False)
    embedding_type: tuple[str, ...] | None = key(Choices(JINA_ENCODINGS, 1, bare=True), None)
    embedding_types: tuple[str, ...] | None = key(Choices(JINA_ENCODINGS, 1, bare=True), None)
    return_multivector: bool = key(Harmless((False,)), False)

    def __post_init__(self) -> None:
        """Raise RequestError for keys that contradict one another."""
        asked = {self.encoding_format, *(self.embedding_type or ()), *(self.embedding_types or ())}
        if len(asked - {None}) > 1:
            raise RequestError(
                "encoding_format and embedding_type ask for different encodings; send one of them",
                param="embedding_type",
            )
        if self.task is not None and self.prompt_name is not None:
            raise RequestError(
                "task and prompt_name were both given; send one of them", param="task"
            )
        if self.late_chunking and isinstance(self.input, Ids):
            raise RequestError("late_chunking is for texts, not for token ids", param="input")

    @property
    def encoding(self) -> str:
        """How the vectors are written; float where nothing is asked for."""
        for words in (self.embedding_type, self.embedding_types):
            if words:
                return words[0]
        return self.encoding_format or "float"


def response(rows: np.ndarray, encoding: str, model: str, tokens: int) -> dict[str, Any]:
    """{"object": "list", "data": [...], "model", "usage"} of the rows [n, d]."""
    data = [
        {"object": "embedding", "index": i, "embedding": row}
        for i, row in enumerate(encoded(rows, encoding))
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def models(names: Mapping[str, Mapping[str, Any]], created: int) -> dict[str, Any]:
    """GET /v1/models: OpenAI's list under "data", Cohere's under "models".

    names are the models with their endpoints, in Cohere's words, and their context_length.
    """
    return {
        "object": "list",
        "data": [model(name, created) for name in names],
        "models": [{"name": name, "finetuned": False, **own} for name, own in names.items()],
        "next_page_token": None,
    }


def model(name: str, created: int) -> dict[str, Any]:
    """GET /v1/models/NAME, as OpenAI writes a model."""
    return {"id": name, "object": "model", "created": created, "owned_by": "jaxbert"}
