"""Which path does what: one table, from which the app answers and openapi.json is made."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxbert.serve import endpoints, ranking
from jaxbert.serve.endpoints import Reply
from jaxbert.serve.served import Served
from jaxbert.serve.wire import cohere, openai, rerank, tei
from jaxbert.serve.wire.errors import COHERE, OPENAI, TEI, Family
from jaxbert.serve.wire.keys import read

# That /tokenize says of a token.
VALUES = 5


@dataclass(frozen=True)
class Post:
    """A path that takes JSON: its forms, how one of them is answered, who writes such errors."""

    about: str
    forms: tuple[type[Any], ...]
    answer: Callable[[Served, Any], Awaitable[Reply]]
    family: Family
    choose: Callable[[Any], Any] | None = None  # between several forms

    def read(self, document: Any) -> Any:
        """The request in a JSON document. Raises RequestError."""
        return read(self.forms[0], document) if self.choose is None else self.choose(document)

    def family_of(self, document: Any) -> Family:
        """Whose errors the sender of this document reads."""
        cohere_too = isinstance(document, dict) and "documents" in document
        return COHERE if self.family is TEI and cohere_too else self.family


async def tokenize(served: Served, request: tei.Tokenize) -> Reply:
    """POST /tokenize: the tokens of each text, not cut."""
    served.check_texts(len(request.inputs))
    name = served.check_prompt(request.prompt_name)
    prefix = served.embedder.prompt(name, None)
    texts = [prefix + text for text in request.inputs]
    rows = await served.reader.tokenized(texts, request.add_special_tokens)
    return Reply(rows, values=sum(map(len, rows)) * VALUES)


EMBEDDINGS = Post(
    "Vectors of texts, as OpenAI and Jina have it.",
    (openai.Embeddings,),
    endpoints.embeddings,
    OPENAI,
)
POSTS: Mapping[str, Post] = {
    "/v1/embeddings": EMBEDDINGS,
    "/embeddings": EMBEDDINGS,
    "/embed": Post("Vectors of texts, as TEI has it.", (tei.Embed,), endpoints.embed, TEI),
    "/embed_all": Post(
        "A vector for each token of each text.", (tei.EmbedAll,), endpoints.embed_all, TEI
    ),
    "/similarity": Post(
        "Cosines of a sentence and others.", (tei.Similarity,), endpoints.similarity, TEI
    ),
    "/tokenize": Post("The tokens of texts.", (tei.Tokenize,), tokenize, TEI),
    "/v2/embed": Post(
        "Vectors of texts, as Cohere has it.", (cohere.EmbedV2,), endpoints.embed_v2, COHERE
    ),
    "/v1/embed": Post(
        "Vectors of texts, as Cohere had it.", (cohere.EmbedV1,), endpoints.embed_v1, COHERE
    ),
    "/rerank": Post(
        "Documents by their score for a query, as TEI (texts) or Jina (documents) has it.",
        (tei.Rank, rerank.Rerank),
        ranking.either,
        TEI,
        rerank.either,
    ),
    "/v1/rerank": Post(
        "Documents by their score for a query, as Cohere and Jina have it.",
        (rerank.Rerank,),
        lambda served, request: ranking.ranked(served, "1", request),
        COHERE,
    ),
    "/v2/rerank": Post(
        "Documents by their score for a query, as Cohere has it.",
        (rerank.Rerank,),
        lambda served, request: ranking.ranked(served, "2", request),
        COHERE,
    ),
}
GETS: Mapping[str, str] = {
    "/": "A page for people.",
    "/health": "200 while the server is alive, 500 once a thread that computes has died.",
    "/ready": "200 while requests are taken, 503 while the model is loaded or the server drains.",
    "/info": "The model, its limits, and what /rerank ranks by; TEI's fields.",
    "/metrics": "Counts and times as Prometheus reads them.",
    "/openapi.json": "This description.",
    "/v1/models": "The models, as OpenAI (data) and Cohere (models) list them.",
}
ONE_MODEL = "/v1/models/"  # and the name of a model behind it
PATHS = (*POSTS, *GETS, f"{ONE_MODEL}{{model}}")
# Paths that need no key: what a load balancer, Prometheus and a browser ask for.
OPEN = {"/", "/health", "/ready", "/metrics", "/openapi.json"}


def label(path: str) -> str:
    """The path as metrics name it, so that no client can make new names."""
    if path in POSTS or path in GETS:
        return path
    return f"{ONE_MODEL}{{model}}" if path.startswith(ONE_MODEL) else "other"
