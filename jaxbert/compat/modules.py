"""What model[0], model[1] ... are: the steps of a model, described, and not torch's modules."""

from typing import Any

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.errors import InputError
from jaxbert.model.head import Dense, Pooling


class AutoModelMissingError(InputError, AttributeError):
    """The transformers model inside was asked for; there is none."""


NO_TORCH = (
    "{} is a module of torch in sentence-transformers, and the model runs in JAX here: use "
    "model.embedder.encoder for the encoder, its weights and its states, or jaxbert.train to train"
)


class Step:
    """One step of a model; its name is that of sentence-transformers' module."""

    def __init__(self, model: Any, name: str, fields: dict[str, Any]) -> None:
        """fields are what the module's file says."""
        self._model, self._name = model, name
        vars(self).update(fields)

    def __repr__(self) -> str:
        """The name and the fields."""
        shown = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        return f"{self._name}({shown})"

    def __getattr__(self, name: str) -> Any:
        """Raise an error that says what there is instead."""
        if name.startswith("__"):
            raise AttributeError(name)
        raise AutoModelMissingError(NO_TORCH.format(f"{self._name}.{name}"))

    def get_embedding_dimension(self) -> int:
        """The width of what the step gives."""
        return int(self._model.embedder.full_width)

    get_sentence_embedding_dimension = get_embedding_dimension


class TransformerStep(Step):
    """The first step: tokenizer and encoder."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer in the manner of transformers."""
        return self._model.tokenizer

    processor = tokenizer

    @property
    def max_seq_length(self) -> int:
        """The most tokens of a text."""
        return int(self._model.max_seq_length)

    @max_seq_length.setter
    def max_seq_length(self, tokens: int) -> None:
        self._model.max_seq_length = tokens

    def get_embedding_dimension(self) -> int:
        """The width of the states."""
        return int(self._model.embedder.encoder.config.hidden_size)

    get_word_embedding_dimension = get_embedding_dimension
    get_sentence_embedding_dimension = get_embedding_dimension

    def tokenize(self, texts: Any, **options: Any) -> Any:
        """Ids and masks of texts, see the model's `preprocess`."""
        return self._model.preprocess(texts, **options)

    preprocess = tokenize


def steps_of(model: Any) -> list[Step]:
    """The steps of a model in their order: encoder, pooling, and what comes after."""
    stack: Stack = model.embedder.stack
    found: list[Step] = [TransformerStep(model, "Transformer", {"do_lower_case": stack.lower_case})]
    found.append(Step(model, "Pooling", pooling_fields(stack.pooling)))
    for step in stack.after:
        fields = (
            {"in_features": step.weight.shape[1], "out_features": step.weight.shape[0]}
            if isinstance(step, Dense)
            else {}
        )
        found.append(Step(model, type(step).__name__, fields))
    return found


def pooling_fields(pooling: Pooling) -> dict[str, Any]:
    """The attributes of sentence-transformers' Pooling."""
    modes = pooling.modes
    flags = {
        "cls": "pooling_mode_cls_token",
        "max": "pooling_mode_max_tokens",
        "mean": "pooling_mode_mean_tokens",
    }
    return {
        "pooling_mode": modes[0] if len(modes) == 1 else tuple(modes),
        "include_prompt": pooling.include_prompt,
        **{flag: mode in modes for mode, flag in flags.items()},
    }
