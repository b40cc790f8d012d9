"""POST /rerank in its three forms: by the cross-encoder, or by the cosine of the vectors."""

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxbert.inference.queue import Answer
from jaxbert.inference.similarity import similarity
from jaxbert.serve.endpoints import Reply, long, number, total
from jaxbert.serve.served import Served
from jaxbert.serve.wire import rerank, tei
from jaxbert.serve.wire.errors import RequestError


async def ranked(served: Served, version: str, request: rerank.Rerank) -> Reply:
    """POST /v1/rerank and /v2/rerank: Cohere's and Jina's."""
    name = served.ranker_name if served.ranker is not None else served.name
    served.check_model(request.model, name)
    check_most(served, request.max_tokens_per_doc)
    more = long(served, None)
    scores, answers = await scored(served, request.query, request.documents, more)
    documents = request.documents if request.return_documents else None
    tokens = sum(map(total, answers))
    content = rerank.response(
        number(), version, str(name), scores, tokens, request.top_n, documents
    )
    return Reply.of(content, *answers)


async def either(served: Served, request: tei.Rank | rerank.Rerank) -> Reply:
    """POST /rerank: TEI's form where the request has `texts`."""
    if isinstance(request, rerank.Rerank):
        return await ranked(served, "1", request)
    if served.ranker is None:
        if request.raw_scores:
            raise RequestError(
                "raw_scores are those of a cross-encoder, and this server ranks by cosine; leave "
                "it out, or start the server with --rerank MODEL",
                param="raw_scores",
            )
        more = long(served, request.truncate, request.truncation_direction)
    else:
        more = long(served, request.truncate)
        check_side(request, more["on_long"])
        more["activation_fn"] = "Identity" if request.raw_scores else "Sigmoid"
    scores, answers = await scored(served, request.query, request.texts, more)
    texts = request.texts if request.return_text else None
    return Reply.of(tei.ranked(scores, texts), *answers)


async def scored(
    served: Served, query: str, documents: Sequence[str], more: dict[str, Any]
) -> tuple[np.ndarray, tuple[Answer, ...]]:
    """The score [n] of each document, and what the queue answered; more is for the queue.

    By cosine the query and the documents have the prompts of encode_query and encode_document.
    """
    served.check_texts(len(documents))
    if served.ranker is not None:
        del more["side"]  # of a pair the longer text loses its end
        answer = await served.ranker.rerank(query, documents, **more)
        return answer.rows, (answer,)
    encode: Any = partial(served.queue.encode, **more)
    asked, given = await both(
        encode([query], prompt_name=served.purpose("search_query", "query")),
        encode(documents, prompt_name=served.purpose("search_document", "documents")),
    )
    a, b = (served.finished(own.rows, None, "float32", False) for own in (asked, given))
    return similarity(a, b, "cosine")[0], (asked, given)


async def both(
    first: Coroutine[Any, Any, Answer], second: Coroutine[Any, Any, Answer]
) -> tuple[Answer, Answer]:
    """What both give; where one fails or the caller is cancelled, the other is cancelled too."""
    tasks = [asyncio.ensure_future(first), asyncio.ensure_future(second)]
    try:
        a, b = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return a, b


def check_most(served: Served, tokens: int | None) -> None:
    """Raise RequestError for a cut of documents that is shorter than the model's own."""
    model = served.embedder if served.ranker is None else served.ranker.cross_encoder
    if tokens is not None and tokens < model.max_seq_length:
        raise RequestError(
            f"max_tokens_per_doc is {tokens}, but documents are cut at the model's "
            f"{model.max_seq_length} tokens; leave it out, or shorten the documents",
            param="max_tokens_per_doc",
        )


def check_side(request: tei.Rank, on_long: str) -> None:
    """Raise RequestError for a side that pairs are not cut at, where they may be cut."""
    if on_long != "error" and tei.side(request.truncation_direction) == "start":
        raise RequestError(
            "a pair beyond the cross-encoder's length is cut at the end of its longer text; leave "
            'truncation_direction out, or send "truncate": false',
            param="truncation_direction",
        )
