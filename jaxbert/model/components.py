"""What a config says, as objects: the one place where names of choices become components."""

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx

from jaxbert.model.activations import ACTIVATIONS
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import Glu, Identity, LayerNorm, Mlp
from jaxbert.model.position import Alibi, Learned, Position
from jaxbert.model.qk_norm import NoSecondResidual, QueryKeyNorm, SecondResidual

MakePosition = Callable[[nnx.Rngs], Position]
MakeFeedForward = Callable[[nnx.Rngs], nnx.Module]
MakeModule = Callable[[], nnx.Module]


class Components(NamedTuple):
    """How to make each exchangeable component; those with drawn weights take the random numbers.

    A maker is called once for each place where its component stands, so no two layers share one.
    """

    position: MakePosition
    feed_forward: MakeFeedForward
    norm: MakeModule  # of the embeddings, and two in each layer
    query_norm: MakeModule = Identity
    key_norm: MakeModule = Identity
    second_residual: MakeModule = NoSecondResidual
    final_norm: MakeModule = Identity  # behind the last layer; post-norm encoders have none


def components_of(config: EncoderConfig) -> Components:
    """The components that config names."""
    sizes, std, eps = config.sizes, config.initializer_range, config.layer_norm_eps
    activation = ACTIVATIONS[config.activation]
    positions: dict[str, MakePosition] = {
        "none": lambda rngs: Position(),
        "alibi": lambda rngs: Alibi(config.num_heads),
        "learned": lambda rngs: Learned(
            config.max_positions, config.hidden_size, rngs=rngs, std=std
        ),
    }
    feed_forwards: dict[str, MakeFeedForward] = {
        "glu": lambda rngs: Glu(sizes, activation, rngs=rngs, std=std),
        "mlp": lambda rngs: Mlp(
            sizes, activation, rngs=rngs, std=std, use_bias=config.feed_forward_bias
        ),
    }
    query_key_norms: dict[bool, MakeModule] = {
        False: Identity,
        True: lambda: QueryKeyNorm(sizes, eps),
    }
    second_residuals: dict[bool, MakeModule] = {
        False: NoSecondResidual,
        True: lambda: SecondResidual(sizes, eps),
    }
    return Components(
        position=positions[config.position],
        feed_forward=feed_forwards[config.feed_forward],
        norm=lambda: LayerNorm(sizes, eps),
        query_norm=query_key_norms[config.query_key_norm],
        key_norm=query_key_norms[config.query_key_norm],
        second_residual=second_residuals[config.second_residual],
    )
