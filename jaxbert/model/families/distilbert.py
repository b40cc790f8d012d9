"""DistilBERT: BERT without token types.

Source: Sanh et al., arXiv:1910.01108, section 3; transformers' DistilBertModel.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxbert.model.architecture import Architecture
from jaxbert.model.components import bert_components
from jaxbert.model.config import ActivationName, EncoderConfig, FeedForwardName, PositionName
from jaxbert.model.families.embeddings import UntypedEmbeddings


@dataclass(frozen=True, kw_only=True)
class DistilBertConfig(EncoderConfig):
    """The sizes of a DistilBERT; layer_norm_eps is fixed in the published code."""

    positions: ClassVar[tuple[str, ...]] = ("learned",)

    position: PositionName = "learned"
    feed_forward: FeedForwardName = "mlp"
    activation: ActivationName = "gelu"
    type_vocab_size: int = 0


def distilbert(config: DistilBertConfig) -> Architecture:
    """BERT's components, and embeddings without token types."""
    return Architecture.of_equal_layers(
        bert_components(config), config.num_layers, embeddings=UntypedEmbeddings
    )
