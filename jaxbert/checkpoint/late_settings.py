"""What a folder says of a late-interaction model beside its tensors, whatever files say it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.errors import CheckpointError
from jaxbert.model.config import LARGEST

SIMILARITIES = ("maxsim", "meanmaxsim")
QUERY, DOCUMENT = "query", "document"


@dataclass(frozen=True)
class Side:
    """How a query, or a document, becomes tokens, and which of them have a vector."""

    length: int  # tokens, special tokens and the marker included; longer texts are cut
    marker: str | None = None  # the word of a token that stands before the text
    skipped: tuple[str, ...] = ()  # words whose tokens have no vector


@dataclass(frozen=True)
class Expansion:
    """The tokens that fill a query up, which have vectors as its own have."""

    length: int  # tokens that a query has at least
    attended: bool = False  # whether the tokens of the query attend to them
    word: str | None = None  # None: the tokenizer's mask token


@dataclass(frozen=True)
class LateSettings:
    """Everything about a late-interaction model but the weights and the vocabulary."""

    query: Side
    document: Side
    expansion: Expansion | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)  # texts that stand behind the marker
    default_prompt_name: str | None = None
    similarity: str = "maxsim"
    lower_case: bool = False


def checked_length(file: Path, key: str, length: int, stored: Checkpoint) -> int:
    """The length, which the model must have positions for."""
    most = stored.config.max_positions if stored.config.position == "learned" else LARGEST
    if not 1 <= length <= most:
        raise CheckpointError(
            f"{file} has {key} = {length}, but the model takes 1 to {most} tokens; correct the file"
        )
    return length
