"""nomic-bert: BERT with rotary positions, a feed-forward gated by silu, and no biases.

Source: Nussbaum et al., arXiv:2402.01613, section 3.2; transformers' NomicBertModel and the remote
code nomic-ai/nomic-bert-2048.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.architecture import Architecture
from jaxbert.model.components import Components
from jaxbert.model.config import ActivationName, EncoderConfig, FeedForwardName, PositionName
from jaxbert.model.layers import Glu, LayerNorm, Projection
from jaxbert.model.position_schemes import Rope


@dataclass(frozen=True, kw_only=True)
class NomicConfig(EncoderConfig):
    """The sizes of a nomic-bert, and how fast its rotary positions turn.

    Differs: the default of transformers' class is 1000, that of the remote code 10000, so there is
    none here.
    """

    positions: ClassVar[tuple[str, ...]] = ("rope",)

    position: PositionName = "rope"
    feed_forward: FeedForwardName = "glu"
    activation: ActivationName = "silu"
    rope_base: float


def nomic(config: NomicConfig) -> Architecture:
    """Components of a post-norm encoder without a bias in any projection."""
    sizes, std, eps = config.sizes, config.initializer_range, config.layer_norm_eps
    activation = ACTIVATIONS[config.activation]
    components = Components(
        position=lambda rngs: Rope(config.rope_base),
        projection=partial(Projection, sizes=sizes, std=std, use_bias=False),
        feed_forward=partial(Glu, sizes, activation, std=std, down_bias=False),
        norm=partial(LayerNorm, sizes, eps),
    )
    return Architecture.of_equal_layers(components, config.num_layers)
