"""The configuration of an encoder: no file format, and no defaults taken from a library."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin

from jaxbert.errors import ConfigError, shown

# Sizes of arrays that are indexed by int32 numbers.
LARGEST = 2**31 - 1

PositionName = Literal["learned", "alibi", "buckets", "rope", "none"]
FeedForwardName = Literal["mlp", "glu"]
ActivationName = Literal["gelu", "gelu_tanh", "relu", "silu"]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes and choices of one encoder; `bert` and `jinabert` fill in what a family fixes.

    Other families have a config of their own, with further fields (model/families).
    Source: BERT, arXiv:1810.04805, section 3; JinaBERT, arXiv:2310.19923, section 3.
    Differs: nothing is taken from a library's default; layer_norm_eps is BERT's 1e-12, where
    flax has 1e-6 and torch 1e-5.
    """

    # The positions that encoders of this config can have.
    positions: ClassVar[tuple[str, ...]] = ("learned", "alibi", "none")

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    position: PositionName
    feed_forward: FeedForwardName
    activation: ActivationName
    type_vocab_size: int = 2
    max_positions: int = 512  # rows of a learned table; unused by other schemes
    feed_forward_bias: bool = True  # of the first projection of an mlp; a glu has none there
    query_key_norm: bool = False  # LayerNorm of queries and keys over all heads together
    second_residual: bool = False  # LayerNorm(x + a) before the feed-forward
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    hidden_dropout: float = 0.0  # kept for training code; unused in inference
    attention_dropout: float = 0.0

    @classmethod
    def bert(cls, **sizes: Any) -> "EncoderConfig":
        """The config of a BERT: learned positions, a two-layer feed-forward with exact gelu."""
        return cls(**{"position": "learned", "feed_forward": "mlp", "activation": "gelu", **sizes})

    @classmethod
    def jinabert(cls, **sizes: Any) -> "EncoderConfig":
        """The config of a JinaBERT: symmetric ALiBi, a feed-forward gated by exact gelu."""
        family: dict[str, Any] = {"position": "alibi", "feed_forward": "glu", "activation": "gelu"}
        return cls(**(family | {"max_positions": 8192} | sizes))

    def __post_init__(self) -> None:
        """Check every field. Raises ConfigError, which names the field."""
        for field in fields(self):
            value = getattr(self, field.name)
            choices = self.positions if field.name == "position" else get_args(field.type)
            if get_origin(field.type) is Literal and not (type(value) is str and value in choices):
                known = ", ".join(choices)
                raise ConfigError(f"{field.name} is {shown(value)}; it must be one of: {known}")
            least = 0 if field.default == 0 else 1  # 0 stands for what a family has not
            if field.type is int and (type(value) is not int or not least <= value <= LARGEST):
                raise ConfigError(
                    f"{field.name} is {shown(value)}; it must be a positive integer of 32 bits"
                )
            if field.type is bool and type(value) is not bool:
                raise ConfigError(f"{field.name} is {shown(value)}; it must be True or False")
            if field.type is float and not (
                isinstance(value, float) or (type(value) is int and value in (0, 1))
            ):
                raise ConfigError(f"{field.name} is {shown(value)}; it must be a float")
        self.check_heads()
        if self.position == "rope":
            self.check_pairs()
        if not 0 < self.layer_norm_eps < 1:
            raise ConfigError(f"layer_norm_eps is {self.layer_norm_eps!r}; it must lie in (0, 1)")
        for name in ("hidden_dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must lie in [0, 1]")
        if not 0 <= self.initializer_range < float("inf"):
            raise ConfigError(
                f"initializer_range is {self.initializer_range!r}; it must be finite, 0 or more"
            )

    def check_heads(self) -> None:
        """Raise ConfigError where the model width is no multiple of the number of heads."""
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be split over {self.num_heads} heads; "
                "choose a multiple"
            )

    def check_pairs(self) -> None:
        """Raise ConfigError where a head has an odd width, whose features cannot be rotated."""
        if self.sizes["h"] % 2:
            raise ConfigError(
                f"hidden_size {self.hidden_size} over {self.num_heads} heads makes heads of an odd "
                "width, which rotary positions cannot turn in pairs; choose an even one"
            )

    @property
    def position_rows(self) -> int:
        """The rows of a learned table of positions."""
        return self.max_positions

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis that the weights have, by its letter in axes.py."""
        return {
            "v": self.vocab_size,
            "k": self.type_vocab_size,
            "d": self.hidden_size,
            "n": self.num_heads,
            "h": self.hidden_size // self.num_heads,
            "f": self.intermediate_size,
            "g": 2,
            "l": self.num_layers,
        }
