"""RoBERTa and XLM-R: BERT, but positions are counted behind the id of padding, over what is none.

Source: Liu et al., arXiv:1907.11692; Conneau et al., arXiv:1911.02116; transformers'
XLMRobertaModel.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxbert.model.architecture import Architecture
from jaxbert.model.components import bert_components
from jaxbert.model.config import ActivationName, EncoderConfig, FeedForwardName, PositionName
from jaxbert.model.families.embeddings import LearnedBehindPadding, PaddingAwareEmbeddings


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(EncoderConfig):
    """The sizes of a RoBERTa or XLM-R; max_positions is the tokens that a text may have.

    The table of positions has padding_id + 1 rows more, so a published max_position_embeddings of
    514 is max_positions 512 here.
    """

    positions: ClassVar[tuple[str, ...]] = ("learned",)

    position: PositionName = "learned"
    feed_forward: FeedForwardName = "mlp"
    activation: ActivationName = "gelu"
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    padding_id: int = 1

    @property
    def position_rows(self) -> int:
        """The rows of the table of positions."""
        return self.max_positions + self.padding_id + 1


def roberta(config: RobertaConfig) -> Architecture:
    """BERT's components, with positions that begin behind padding_id."""
    position = partial(
        LearnedBehindPadding, config, config.padding_id, std=config.initializer_range
    )
    return Architecture.of_equal_layers(
        bert_components(config)._replace(position=position),
        config.num_layers,
        embeddings=partial(PaddingAwareEmbeddings, padding_id=config.padding_id),
    )
