"""POST /embed, /embed_all, /similarity, /tokenize and /rerank as TEI has them.

Source: docs/openapi.json of huggingface/text-embeddings-inference 1.9. Its `truncate` and
`truncation_direction` are honoured; keys that it takes and passes over are refused here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxbert.serve.wire.keys import Kind, Schema, key, read, schema, wrong
from jaxbert.serve.wire.kinds import Choice, Flag, Ids, Inputs, Text, Texts, Whole

DIRECTIONS = ("Left", "Right", "left", "right")


@dataclass(frozen=True)
class Embed:
    """The body of POST /embed."""

    inputs: tuple[str, ...] | Ids = key(Inputs())
    normalize: bool = key(Flag(), True)
    truncate: bool | None = key(Flag(), None)
    truncation_direction: str = key(Choice(DIRECTIONS), "Right")
    prompt_name: str | None = key(Text(), None)
    dimensions: int | None = key(Whole(1), None)


@dataclass(frozen=True)
class EmbedAll:
    """The body of POST /embed_all: a vector for each token."""

    inputs: tuple[str, ...] | Ids = key(Inputs())
    truncate: bool | None = key(Flag(), None)
    truncation_direction: str = key(Choice(DIRECTIONS), "Right")
    prompt_name: str | None = key(Text(), None)


@dataclass(frozen=True)
class SimilarityInputs:
    """One sentence, and those that it is compared with."""

    source_sentence: str = key(Text())
    sentences: tuple[str, ...] = key(Texts(bare=False))


@dataclass(frozen=True)
class SimilarityParameters:
    """How both sides of a comparison are embedded."""

    truncate: bool | None = key(Flag(), None)
    truncation_direction: str = key(Choice(DIRECTIONS), "Right")
    prompt_name: str | None = key(Text(), None)


@dataclass(frozen=True)
class Within:
    """An object of its own inside a request."""

    request: type[Any]

    def read(self, value: Any, name: str) -> Any:
        """The inner request, read as its own form."""
        if not isinstance(value, dict):
            raise wrong(value, name, "an object")
        return read(self.request, value)

    def schema(self) -> Schema:
        """The schema of the inner request."""
        return schema(self.request)


def within(request: type[Any]) -> Kind:
    """The kind of a key that holds such an object."""
    return Within(request)


@dataclass(frozen=True)
class Similarity:
    """The body of POST /similarity."""

    inputs: SimilarityInputs = key(within(SimilarityInputs))
    parameters: SimilarityParameters = key(within(SimilarityParameters), SimilarityParameters())


@dataclass(frozen=True)
class Tokenize:
    """The body of POST /tokenize."""

    inputs: tuple[str, ...] = key(Texts())
    add_special_tokens: bool = key(Flag(), True)
    prompt_name: str | None = key(Text(), None)


@dataclass(frozen=True)
class Rank:
    """The body of POST /rerank with `texts`."""

    query: str = key(Text())
    texts: tuple[str, ...] = key(Texts(bare=False))
    raw_scores: bool = key(Flag(), False)
    return_text: bool = key(Flag(), False)
    truncate: bool | None = key(Flag(), None)
    truncation_direction: str = key(Choice(DIRECTIONS), "Right")


def side(direction: str) -> str:
    """The side of a text that is cut: TEI's Right is the end."""
    return "start" if direction.lower() == "left" else "end"


def ranked(scores: np.ndarray, texts: Sequence[str] | None) -> list[dict[str, Any]]:
    """[{"index", "score", "text"?}], the best first; equal scores keep their order."""
    order = np.argsort(-scores, kind="stable").tolist()
    rows: list[dict[str, Any]] = [{"index": i, "score": float(scores[i])} for i in order]
    return rows if texts is None else [row | {"text": texts[row["index"]]} for row in rows]
