"""MPNet: BERT without token types, with XLM-R's positions and T5's relative bias, shared by layers.

Source: Song et al., arXiv:2004.09297; transformers' MPNetModel.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from flax import nnx

from jaxbert.model.architecture import Architecture
from jaxbert.model.components import bert_components
from jaxbert.model.families.embeddings import LearnedBehindPadding, UntypedPaddingAwareEmbeddings
from jaxbert.model.families.roberta import RobertaConfig
from jaxbert.model.position_schemes import Sum, T5Bias


@dataclass(frozen=True, kw_only=True)
class MpnetConfig(RobertaConfig):
    """The sizes of an MPNet: those of a RoBERTa, and the buckets of its relative bias."""

    type_vocab_size: int = 0
    num_buckets: int = 32
    max_distance: int = 128  # fixed in the published code

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis by its letter; r is the buckets."""
        return super().sizes | {"r": self.num_buckets}


def mpnet(config: MpnetConfig) -> Architecture:
    """Components of BERT, with learned positions and a bias of the scores by distance."""
    std = config.initializer_range

    def position(rngs: nnx.Rngs) -> Any:
        table = LearnedBehindPadding(config, config.padding_id, rngs=rngs, std=std)
        bias = T5Bias(
            config.num_heads,
            rngs=rngs,
            std=std,
            num_buckets=config.num_buckets,
            max_distance=config.max_distance,
        )
        return Sum(table, bias)

    return Architecture.of_equal_layers(
        bert_components(config)._replace(position=position),
        config.num_layers,
        embeddings=partial(UntypedPaddingAwareEmbeddings, padding_id=config.padding_id),
    )
