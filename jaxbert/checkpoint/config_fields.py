"""The keys of config.json that say a field of EncoderConfig, in one table for both directions.

Source: transformers' BertConfig and the JinaBertConfig of JinaBERT's remote code.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxbert.checkpoint.json_file import typed
from jaxbert.errors import CheckpointError, shown
from jaxbert.model.config import EncoderConfig

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    # Aliases in transformers; when saving, the first name listed for a function is written.
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "swish": "silu",
}
POSITIONS = {"absolute": "learned", "alibi": "alibi"}
FEED_FORWARDS = {"original": "mlp", "geglu": "glu", "reglu": "glu"}
GATES = {"geglu": "gelu", "reglu": "relu"}


@dataclass(frozen=True)
class Key:
    """A key of config.json and the field of EncoderConfig that it fills, with the same value."""

    name: str
    field: str
    # What the published code takes where the key is absent; None: the key must be there.
    default: Any = None

    def read(self, raw: Mapping[str, Any]) -> Any:
        """The value, which EncoderConfig checks; CheckpointError for a key that must be there."""
        self.check_there(raw)
        return raw.get(self.name, self.default)

    def check_there(self, raw: Mapping[str, Any]) -> None:
        """CheckpointError where the key is missing and has no default."""
        if self.default is None and self.name not in raw:
            raise CheckpointError(
                f"config.json has no {self.name}; restore the file from where it came"
            )

    def write(self, config: EncoderConfig) -> Any:
        """The value of the key for this config; None where the file has no word for it."""
        return getattr(config, self.field)


class NumberKey(Key):
    """A key that holds a float, which JSON may write without a point."""

    def read(self, raw: Mapping[str, Any]) -> float:
        """The value as a float; CheckpointError for what is no number."""
        self.check_there(raw)
        value = typed(raw, self.name, int | float, self.default, "config.json")
        try:
            return float(value)
        except OverflowError as error:
            raise CheckpointError(
                f"config.json has {self.name} = {shown(value)}, which is too large; restore it"
            ) from error


@dataclass(frozen=True)
class WordKey(Key):
    """A key that holds one of a few words, and our word for each of them."""

    words: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def read(self, raw: Mapping[str, Any]) -> Any:
        """Our word for the value; CheckpointError lists what is understood."""
        value = raw.get(self.name, self.default)
        if not isinstance(value, str) or value not in self.words:
            raise CheckpointError(
                f"config.json has {self.name} = {shown(value)}; understood are: "
                f"{', '.join(self.words)}"
            )
        return self.words[value]

    def write(self, config: EncoderConfig) -> str | None:
        """The first word of the file that stands for ours; None where it has none."""
        ours = getattr(config, self.field)
        return next((theirs for theirs, word in self.words.items() if word == ours), None)


POSITION = WordKey("position_embedding_type", "position", "absolute", POSITIONS)
FEED_FORWARD = WordKey("feed_forward_type", "feed_forward", "original", FEED_FORWARDS)
ACTIVATION = WordKey("hidden_act", "activation", "gelu", ACTIVATIONS)
# In the order in which they are read, so that the first fault is the one that is reported.
NUMBERS = (
    Key("vocab_size", "vocab_size"),
    Key("hidden_size", "hidden_size"),
    Key("num_hidden_layers", "num_layers"),
    Key("num_attention_heads", "num_heads"),
    Key("intermediate_size", "intermediate_size"),
    Key("type_vocab_size", "type_vocab_size", 2),
    Key("max_position_embeddings", "max_positions", 512),
    NumberKey("layer_norm_eps", "layer_norm_eps", 1e-12),
    NumberKey("initializer_range", "initializer_range", 0.02),
    NumberKey("hidden_dropout_prob", "hidden_dropout", 0.1),
    NumberKey("attention_probs_dropout_prob", "attention_dropout", 0.1),
)
KEYS = (*NUMBERS, POSITION, FEED_FORWARD, ACTIVATION)
