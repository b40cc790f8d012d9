"""The exchangeable components of an encoder, and those of a BERT or JinaBERT by its config.

This is the one place where the names of a config's choices are looked up.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import Glu, LayerNorm, Mlp, Projection
from jaxbert.model.position import Alibi, Learned, Position
from jaxbert.model.qk_norm import Identity, NoSecondResidual, QueryKeyNorm, SecondResidual

Make = Callable[..., Any]


class Components(NamedTuple):
    """A maker, a class or a partial of one, for each exchangeable component.

    A maker is called once for each use, so no two layers share a component: position and
    feed_forward as maker(rngs=), projection as maker(einsum, rngs=), the others without arguments.
    """

    position: Make
    projection: Make  # onto the heads of attention, and back
    feed_forward: Make
    norm: Make  # of the embeddings, and two in each layer
    query_norm: Make = Identity
    key_norm: Make = Identity
    second_residual: Make = NoSecondResidual
    final_norm: Make = Identity  # after the last layer; post-norm encoders have none


def bert_components(config: EncoderConfig) -> Components:
    """The makers of the components that config names, for layers of its sizes."""
    sizes, std, eps = config.sizes, config.initializer_range, config.layer_norm_eps
    activation, use_bias = ACTIVATIONS[config.activation], config.feed_forward_bias
    positions: dict[str, Make] = {
        "none": lambda rngs: Position(),
        "alibi": lambda rngs: Alibi(config.num_heads),
        "learned": partial(Learned, config.max_positions, config.hidden_size, std=std),
    }
    feed_forwards: dict[str, Make] = {
        "glu": partial(Glu, sizes, activation, std=std),
        "mlp": partial(Mlp, sizes, activation, std=std, use_bias=use_bias),
    }
    query_key_norm = partial(QueryKeyNorm, sizes, eps) if config.query_key_norm else Identity
    return Components(
        position=positions[config.position],
        projection=partial(Projection, sizes=sizes, std=std),
        feed_forward=feed_forwards[config.feed_forward],
        norm=partial(LayerNorm, sizes, eps),
        query_norm=query_key_norm,
        key_norm=query_key_norm,
        second_residual=(
            partial(SecondResidual, sizes, eps) if config.second_residual else NoSecondResidual
        ),
    )
