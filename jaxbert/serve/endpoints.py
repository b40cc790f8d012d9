"""What each endpoint of vectors does: a checked request -> the queue -> the answer's JSON."""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.inference.queue import Answer
from jaxbert.inference.similarity import similarity as similarity_of
from jaxbert.serve.served import Served
from jaxbert.serve.token_ids import check_ids
from jaxbert.serve.wire import cohere, openai, tei
from jaxbert.serve.wire.errors import RequestError
from jaxbert.serve.wire.kinds import Ids
from jaxbert.serve.wire.vectors import PRECISIONS, encoded


@dataclass(frozen=True)
class Reply:
    """The JSON of an answer, and what is counted of it."""

    content: Any
    texts: int = 0
    truncated: int = 0
    values: int = 0  # in the JSON, about

    @classmethod
    def of(cls, content: Any, *answers: Answer) -> "Reply":
        """The reply that is made of a queue's answers."""
        texts = sum(len(answer.tokens) for answer in answers)
        cut = sum(int((answer.uncut > answer.tokens).sum()) for answer in answers)
        values = sum(rows.size for answer in answers for rows in answer.rows)
        return cls(content, texts, cut, values)


def total(answer: Answer) -> int:
    """The tokens that an answer cost."""
    return int(answer.tokens.sum())


def number() -> str:
    """A new identity for an answer, as Cohere gives them."""
    return str(uuid.uuid4())


def long(served: Served, truncate: bool | None, direction: str = "Right") -> dict[str, Any]:
    """The queue's arguments for texts beyond the model's length."""
    on_long = served.rules.on_long
    if truncate is not None:
        on_long = "truncate" if truncate else "error"
    return {"on_long": on_long, "side": tei.side(direction)}


async def embeddings(served: Served, request: openai.Embeddings) -> Reply:
    """POST /v1/embeddings: OpenAI's and Jina's."""
    served.check_model(request.model, served.name)
    precision = PRECISIONS[request.encoding]
    served.check_finish(request.dimensions, precision, "dimensions")
    prompt = served.check_prompt(request.prompt_name)
    if request.task is not None:
        prompt = served.purpose(request.task, "task")
    answer = await vectors(served, request, prompt)
    rows = served.finished(answer.rows, request.dimensions, precision, request.normalized)
    content = openai.response(rows, request.encoding, served.name, total(answer))
    return Reply.of(content, answer)


async def vectors(served: Served, request: openai.Embeddings, prompt: str | None) -> Answer:
    """The vectors of texts, of the parts of one text, or of token ids."""
    if isinstance(request.input, Ids):
        return await of_ids(served, request.input, prompt)
    served.check_texts(len(request.input))
    if not request.late_chunking:
        more = long(served, request.truncate)
        return await served.queue.encode(request.input, prompt_name=prompt, **more)
    if request.truncate is not None:
        raise RequestError(
            "truncate is not for late_chunking, which reads all of a text in windows; leave it out",
            param="truncate",
        )
    return await served.queue.encode_chunks(request.input, prompt_name=prompt)


async def of_ids(served: Served, ids: Ids, prompt: str | None) -> Answer:
    """The vectors of token ids, where the operator takes them."""
    if not served.rules.accept_ids:
        raise RequestError(
            "the input is token ids, which are those of another tokenizer unless the client has "
            "this model's; send texts (with LangChain: check_embedding_ctx_length=False), or start "
            "the server with --accept-ids",
            code="token_input",
            param="input",
        )
    if prompt is not None:
        raise RequestError("token ids take no prompt; put its ids in", param="prompt_name")
    served.check_texts(len(ids.rows))
    check_ids(served.embedder, ids.rows)
    return await served.queue.encode_ids([np.array(row, np.int32) for row in ids.rows])


async def embed(served: Served, request: tei.Embed) -> Reply:
    """POST /embed: TEI's vectors, a list of lists of numbers."""
    served.check_finish(request.dimensions, "float32", "dimensions")
    prompt = served.check_prompt(request.prompt_name)
    if isinstance(request.inputs, Ids):
        answer = await of_ids(served, request.inputs, prompt)
    else:
        served.check_texts(len(request.inputs))
        more = long(served, request.truncate, request.truncation_direction)
        answer = await served.queue.encode(request.inputs, prompt_name=prompt, **more)
    rows = served.finished(answer.rows, request.dimensions, "float32", request.normalize)
    return Reply.of(encoded(rows, "float"), answer)


async def embed_all(served: Served, request: tei.EmbedAll) -> Reply:
    """POST /embed_all: a vector for each token of each text, before pooling."""
    if isinstance(request.inputs, Ids):
        raise RequestError(
            "the inputs are token ids, which /embed_all does not take; send texts",
            code="token_input",
            param="inputs",
        )
    served.check_texts(len(request.inputs))
    prompt = served.check_prompt(request.prompt_name)
    more = long(served, request.truncate, request.truncation_direction)
    answer = await served.queue.encode_tokens(request.inputs, prompt_name=prompt, **more)
    return Reply.of([encoded(states, "float") for states in answer.rows], answer)


async def similarity(served: Served, request: tei.Similarity) -> Reply:
    """POST /similarity: the cosine of one sentence and each of the others."""
    asked, texts = request.parameters, [request.inputs.source_sentence, *request.inputs.sentences]
    served.check_texts(len(texts))
    prompt = served.check_prompt(asked.prompt_name)
    more = long(served, asked.truncate, asked.truncation_direction)
    answer = await served.queue.encode(texts, prompt_name=prompt, **more)
    rows = served.finished(answer.rows, None, "float32", False)
    return Reply.of(similarity_of(rows[:1], rows[1:], "cosine")[0].tolist(), answer)


async def embed_v2(served: Served, request: cohere.EmbedV2) -> Reply:
    """POST /v2/embed: Cohere's vectors by types."""
    served.check_model(request.model, served.name)
    answer, rows = await by_types(served, request, request.embedding_types, request.max_tokens)
    return Reply.of(cohere.response(number(), "2", rows, request.texts, total(answer)), answer)


async def embed_v1(served: Served, request: cohere.EmbedV1) -> Reply:
    """POST /v1/embed: Cohere's older form."""
    served.check_model(request.model, served.name)
    types = request.embedding_types
    answer, rows = await by_types(served, request, types or ("float",), None)
    made = (
        cohere.response_floats(number(), rows["float"], request.texts, total(answer))
        if types is None
        else cohere.response(number(), "1", rows, request.texts, total(answer))
    )
    return Reply.of(made, answer)


async def by_types(
    served: Served,
    request: cohere.EmbedV2 | cohere.EmbedV1,
    types: tuple[str, ...],
    max_tokens: int | None,
) -> tuple[Answer, dict[str, np.ndarray]]:
    """The vectors of Cohere's request in each of the types that it asks for."""
    dimensions = getattr(request, "output_dimension", None)
    for name in types:
        served.check_finish(dimensions, PRECISIONS[name], "output_dimension")
    served.check_texts(len(request.texts))
    longest = served.embedder.max_seq_length
    answer = await served.queue.encode(
        request.texts,
        prompt_name=served.purpose(request.input_type, "input_type"),
        max_length=None if max_tokens is None else min(max_tokens, longest),
        on_long="error" if request.truncate == "NONE" else "truncate",
        side="start" if request.truncate == "START" else "end",
    )
    made = {name: PRECISIONS[name] for name in types}
    found = {
        precision: served.finished(answer.rows, dimensions, precision, True)
        for precision in set(made.values())
    }
    return answer, {name: found[precision] for name, precision in made.items()}
