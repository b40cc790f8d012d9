"""Embeddings of families without token types, and positions that pass over padding."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxbert.model.axes import Hidden, Ids, Positions
from jaxbert.model.components import Components
from jaxbert.model.config import EncoderConfig
from jaxbert.model.layers import lookup
from jaxbert.model.position import Learned, Position
from jaxbert.model.transformer import Embeddings, Inputs


class UntypedEmbeddings(nnx.Module):
    """norm(word[id] + what the position scheme adds): the model has no token types."""

    def __init__(self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs) -> None:
        """Draw the table of words [v, d]."""
        shape = (config.vocab_size, config.hidden_size)
        noise = jax.random.normal(rngs.params(), shape, jnp.float32)
        self.word = nnx.Param(config.initializer_range * noise)
        self.norm = components.norm()

    @jax.named_scope("embeddings")
    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; NaN for an id that the table does not have."""
        x = lookup(self.word[...], inputs.ids)
        return self.norm(scheme.embed(x, inputs.positions))


def positions_without_padding(ids: Ids, positions: Positions, padding_id: int) -> Positions:
    """The position of each token among those of its text that are no padding; -1 for padding.

    A text begins where its position is 0. Padding is known by its id, whatever a mask says.
    Source: transformers' create_position_ids_from_input_ids.
    """
    is_padding = ids == padding_id
    ones = is_padding.astype(jnp.int32)
    before = jnp.cumsum(ones, axis=1) - ones
    # The number of padding ids before its text is what a text does not count.
    starts = jnp.broadcast_to(positions == 0, ids.shape)
    outside = jax.lax.cummax(jnp.where(starts, before, 0), axis=1)
    return jnp.where(is_padding, -1, positions - (before - outside))


class LearnedBehindPadding(Learned):
    """x + table[padding_id + 1 + pos]; padding, whose position is -1, has the row padding_id."""

    def __init__(
        self, config: EncoderConfig, padding_id: int, *, rngs: nnx.Rngs, std: float
    ) -> None:
        """Draw the table [padding_id + 1 + max_positions, d]."""
        super().__init__(config.position_rows, config.hidden_size, rngs=rngs, std=std)
        self.first = padding_id + 1

    @property
    def limit(self) -> int:  # type: ignore[override]
        """The number of tokens that have a row; a longer text is refused."""
        return self.table.shape[0] - self.first

    def embed(self, x: Hidden, pos: Positions) -> Hidden:
        """x plus the vector of each position; NaN for a position beyond the table."""
        return super().embed(x, pos + self.first)


class PaddingAwareEmbeddings(Embeddings):
    """Embeddings whose positions pass over padding_id."""

    def __init__(
        self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs, padding_id: int
    ) -> None:
        """Draw the tables of words [v, d] and of token types [k, d]."""
        super().__init__(config, components, rngs=rngs)
        self.padding_id = padding_id

    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; NaN for an id that the tables do not have."""
        pos = positions_without_padding(inputs.ids, inputs.positions, self.padding_id)
        return super().__call__(inputs._replace(positions=pos), scheme)


class UntypedPaddingAwareEmbeddings(UntypedEmbeddings):
    """UntypedEmbeddings whose positions pass over padding_id."""

    def __init__(
        self, config: EncoderConfig, components: Components, *, rngs: nnx.Rngs, padding_id: int
    ) -> None:
        """Draw the table of words [v, d]."""
        super().__init__(config, components, rngs=rngs)
        self.padding_id = padding_id

    def __call__(self, inputs: Inputs, scheme: Position) -> Hidden:
        """The states before the first layer; NaN for an id that the table does not have."""
        pos = positions_without_padding(inputs.ids, inputs.positions, self.padding_id)
        return super().__call__(inputs._replace(positions=pos), scheme)
