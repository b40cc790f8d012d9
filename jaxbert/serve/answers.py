"""The JSON schemas of answers, for openapi.json; tests hold the answers to them."""

from collections.abc import Mapping
from typing import Any

from jaxbert.serve.wire.keys import Schema

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}


def listed(items: Schema) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": items}


def record(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> Schema:
    """An object that has the required keys and perhaps the optional ones."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
    }


def maybe(found: Schema) -> Schema:
    """Such a value or null."""
    return {"anyOf": [found, {"type": "null"}]}


VECTOR = listed(NUMBER)
USAGE = record({"prompt_tokens": WHOLE, "total_tokens": WHOLE})
META = record({"api_version": record({"version": TEXT})})
EMBEDDINGS = record(
    {
        "object": {"const": "list"},
        "data": listed(
            record(
                {
                    "object": {"const": "embedding"},
                    "index": WHOLE,
                    "embedding": {"anyOf": [VECTOR, TEXT]},
                }
            )
        ),
        "model": TEXT,
        "usage": USAGE,
    }
)
COHERE_HEAD = {"id": TEXT, "response_type": TEXT, "texts": listed(TEXT), "meta": META}
BY_TYPES: Schema = {
    "type": "object",
    "additionalProperties": listed({"anyOf": [VECTOR, TEXT]}),
}
RESULT = record({"index": WHOLE, "relevance_score": NUMBER}, {"document": record({"text": TEXT})})
RERANKED = record(
    {"id": TEXT, "model": TEXT, "results": listed(RESULT), "usage": USAGE, "meta": META}
)
TEI_RANKED = listed(record({"index": WHOLE, "score": NUMBER}, {"text": TEXT}))
TOKEN = record(
    {"id": WHOLE, "text": TEXT, "special": FLAG, "start": maybe(WHOLE), "stop": maybe(WHOLE)}
)
ANSWERS: Mapping[str, Schema] = {
    "/v1/embeddings": EMBEDDINGS,
    "/embeddings": EMBEDDINGS,
    "/embed": listed(VECTOR),
    "/embed_all": listed(listed(VECTOR)),
    "/similarity": VECTOR,
    "/tokenize": listed(listed(TOKEN)),
    "/v2/embed": record({"embeddings": BY_TYPES, **COHERE_HEAD}),
    "/v1/embed": record({"embeddings": {"anyOf": [BY_TYPES, listed(VECTOR)]}, **COHERE_HEAD}),
    "/rerank": {"anyOf": [TEI_RANKED, RERANKED]},
    "/v1/rerank": RERANKED,
    "/v2/rerank": RERANKED,
}
MODEL = record({"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT})
COHERE_MODEL = record({"name": TEXT, "endpoints": listed(TEXT), "context_length": WHOLE})
READY = record(
    {
        "ready": FLAG,
        "phase": {"enum": ["loading", "ready", "draining", "failed"]},
        "model": TEXT,
        "queue": record({"texts": WHOLE, "tokens": WHOLE, "seconds": NUMBER}),
        "tokens": WHOLE,
        "uptime": NUMBER,
        "ranks_by": maybe(TEXT),
    }
)
INFO = record(
    {
        "model_id": TEXT,
        "model_sha": maybe(TEXT),
        "model_dtype": TEXT,
        "model_type": record({"embedding": record({"pooling": TEXT})}),
        "max_input_length": WHOLE,
        "max_client_batch_size": WHOLE,
        "auto_truncate": FLAG,
        "version": TEXT,
        "prompts": {"type": "object", "additionalProperties": TEXT},
        "jaxbert": record({"width": WHOLE, "rerank": TEXT}),
    }
)
JSON = "application/json"
# The content type and the schema of what a GET path answers.
GOT: Mapping[str, tuple[str, Schema]] = {
    "/": ("text/html", TEXT),
    "/health": (JSON, record({"status": TEXT})),
    "/ready": (JSON, READY),
    "/info": (JSON, INFO),
    "/metrics": ("text/plain", TEXT),
    "/openapi.json": (JSON, {"type": "object"}),
    "/v1/models": (
        JSON,
        record(
            {"object": {"const": "list"}, "data": listed(MODEL), "models": listed(COHERE_MODEL)}
        ),
    ),
    "/v1/models/{model}": (JSON, MODEL),
}
ERRORS: Mapping[str, Schema] = {
    "openai": record(
        {"error": record({"message": TEXT, "type": TEXT, "param": maybe(TEXT), "code": TEXT})}
    ),
    "tei": record({"error": TEXT, "error_type": TEXT}),
    "cohere": record({"message": TEXT, "code": TEXT}),
}
