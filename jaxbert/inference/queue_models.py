"""What a queue needs of the models, which rooms further on define."""

from collections.abc import Sequence
from typing import Any, Protocol

from jaxbert.errors import InputTypeError, shown
from jaxbert.inference.engine import Engine
from jaxbert.inference.pair_request import PairRequest
from jaxbert.inference.programs import AnyProgram
from jaxbert.inference.request import Request
from jaxbert.text.tokenizer import Tokenizer


class AnyEmbedder(Protocol):
    """What an AsyncEmbedder needs of an Embedder."""

    engine: Engine[Any]
    tokenizer: Tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens that a text may have."""

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
        on_long: Any,
    ) -> Request:
        """The arguments of one call, checked."""


class AnyCrossEncoder(Protocol):
    """What an AsyncCrossEncoder needs of a CrossEncoder."""

    engine: Engine[Any]
    scores: AnyProgram
    typed: bool  # the second text of a pair has token type 1
    settings: Any
    tokenizer: Tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens that a pair may have."""

    @property
    def head(self) -> Any:
        """The classifier on top of the encoder."""

    def request(
        self,
        prompt_name: str | None,
        prompt: str | None,
        batch_size: int | None,
        show_progress_bar: bool | None,
        max_length: int | None,
    ) -> PairRequest:
        """The arguments of one call, checked."""


def check_model(model: Any, name: str, methods: Sequence[str]) -> None:
    """Raise InputTypeError for what is no model of this kind."""
    whole = isinstance(getattr(model, "engine", None), Engine)
    if not whole or isinstance(model, type) or not all(hasattr(model, m) for m in methods):
        raise InputTypeError(f"the model is {shown(model)}; pass one of the class {name}")
