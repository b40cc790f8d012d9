"""What a server serves: the models behind its queues, and what it promises about requests."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from jaxbert.embedder import Embedder
from jaxbert.inference.quantise import Ranges
from jaxbert.inference.queue import AsyncCrossEncoder, AsyncEmbedder
from jaxbert.inference.settings import DOCUMENT_PROMPTS
from jaxbert.serve.token_reader import TokenReader
from jaxbert.serve.wire.errors import RequestError

OnLong = Literal["truncate", "error"]
# How Jina and Cohere name what a text is for -> the prompts that stand for it, the first a model
# has. As with encode_query and encode_document, a model without such a prompt takes none.
QUERY, DOCUMENT = ("query",), DOCUMENT_PROMPTS
PURPOSES = {
    "retrieval.query": QUERY,
    "retrieval.passage": DOCUMENT,
    "search_query": QUERY,
    "search_document": DOCUMENT,
}


@dataclass(frozen=True)
class Rules:
    """What a request may ask for, where the operator decides."""

    most_texts: int = 2048
    most_tokens: int = 300_000
    most_states: int = 16_384  # tokens of a request for the states of all
    on_long: OnLong = "truncate"  # of a request that does not say
    accept_ids: bool = False
    strict_model: bool = False  # an unknown name of a model is refused
    ranges: Ranges | None = None  # of int8 and uint8


@dataclass(frozen=True)
class Served:
    """The models of a server, ready to answer."""

    name: str
    queue: AsyncEmbedder
    ranker_name: str | None = None
    ranker: AsyncCrossEncoder | None = None
    rules: Rules = Rules()
    facts: dict[str, str] = field(default_factory=dict)  # revision, dtype, version, device

    @property
    def embedder(self) -> Embedder:
        """The model of vectors, whose settings a request is checked against."""
        embedder: Any = self.queue.embedder
        return embedder

    @cached_property
    def reader(self) -> TokenReader:
        """What describes the tokens of texts."""
        return TokenReader(self.embedder.tokenizer, self.rules.most_tokens)

    @property
    def compilations(self) -> int:
        """How many shapes have been compiled, or read from the cache, so far."""
        return self.queue.compilations + (self.ranker.compilations if self.ranker else 0)

    @property
    def ranks_by(self) -> str:
        """What the scores of /rerank are, in words for people."""
        if self.ranker is None:
            return "cosine of the vectors of query and document; no --rerank MODEL was given"
        return f"scores of the cross-encoder {self.ranker_name}"

    @property
    def healthy(self) -> bool:
        """False once a thread that computes has died."""
        return self.queue.healthy and (self.ranker is None or self.ranker.healthy)

    def check_texts(self, number: int) -> None:
        """Raise RequestError for more texts than a request may have."""
        if number > self.rules.most_texts:
            raise RequestError(
                f"the request has {number} texts, and the most is {self.rules.most_texts}; send "
                "several requests",
                code="too_many_texts",
            )

    def check_model(self, asked: str | None, known: str | None) -> None:
        """Raise RequestError for the name of another model, where the operator is strict."""
        if self.rules.strict_model and asked not in (None, known):
            raise RequestError(
                f"the model {asked!r} is not served here; this server has {known!r}",
                status=404,
                code="model_not_found",
                param="model",
            )

    def check_prompt(self, name: str | None) -> str | None:
        """The name of a prompt. Raises RequestError for one that the model has not."""
        prompts = self.embedder.prompts
        if name is not None and name not in prompts:
            known = ", ".join(map(repr, prompts)) or "none"
            raise RequestError(
                f"the model has no prompt named {name!r}; it has: {known}",
                code="unknown_prompt",
                param="prompt_name",
            )
        return name

    def purpose(self, task: str | None, key: str) -> str | None:
        """The name of the prompt for Jina's task or Cohere's input_type; None: the default.

        Raises RequestError, which names the key, for a task that this model does not tell apart.
        """
        prompts = self.embedder.prompts
        if task is None or task in prompts:
            return task
        if task in PURPOSES:
            return next((name for name in PURPOSES[task] if name in prompts), None)
        if key == "input_type" and not any(prompts.values()):  # Cohere asks for one always
            return None
        known = ", ".join(map(repr, prompts)) or "none"
        raise RequestError(
            f"the model has no prompt for the {key} {task!r}; its prompts are: {known}",
            code="unknown_prompt",
            param=key,
        )

    def finished(
        self, rows: np.ndarray, dimensions: int | None, precision: Any, normalize: bool
    ) -> np.ndarray:
        """Vectors as a client asked for them; the arguments have been checked."""
        ranges = self.rules.ranges if precision in ("int8", "uint8") else None
        return self.embedder.finish(dimensions, normalize, precision, ranges)(rows)

    def check_finish(self, dimensions: int | None, precision: str, key: str) -> None:
        """Raise RequestError, which names the key, for a width or bytes that there are not."""
        width = self.embedder.full_width
        if dimensions is not None and dimensions > width:
            raise RequestError(
                f"{key} is {dimensions}, but vectors of this model have {width} features; send "
                f"1 to {width}",
                code="dimensions",
                param=key,
            )
        if precision in ("int8", "uint8"):
            ranges = self.rules.ranges
            kept = self.embedder.get_embedding_dimension() if dimensions is None else dimensions
            if ranges is None or len(ranges.low) != kept:
                raise RequestError(
                    f"{precision} needs the range of each of {kept} features, which the server "
                    "was not given; ask for float, base64, binary or ubinary, or start it with "
                    "--ranges FILE",
                    code="no_ranges",
                    param="embedding_types",
                )
