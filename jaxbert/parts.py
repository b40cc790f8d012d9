"""What a config says, as objects: the one place where names of choices become parts."""

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx

from jaxbert.config import EncoderConfig
from jaxbert.layers import ACTIVATIONS, Glu, Mlp
from jaxbert.position import Alibi, Learned, Position
from jaxbert.variants import HeadsNorm, Identity, Keep, Rejoin

MakePosition = Callable[[nnx.Rngs], Position]
MakeFeedForward = Callable[[nnx.Rngs], nnx.Module]


class Parts(NamedTuple):
    """How to make each exchangeable part; those with weights take the random numbers."""

    position: MakePosition
    feed_forward: MakeFeedForward
    head_norm: Callable[[], nnx.Module]
    rejoin: Callable[[], nnx.Module]


def parts(config: EncoderConfig) -> Parts:
    """The parts that config names."""
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
    return Parts(
        position=positions[config.position],
        feed_forward=feed_forwards[config.feed_forward],
        head_norm=(lambda: HeadsNorm(sizes, eps)) if config.query_key_norm else Identity,
        rejoin=(lambda: Rejoin(sizes, eps)) if config.second_residual else Keep,
    )
