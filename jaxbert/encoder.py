"""The encoder that callers meet: a Transformer that checks its inputs, opens and saves folders."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxbert import checkpoint, hub
from jaxbert.inputs import ArrayInput, check_dtype, prepare
from jaxbert.loading import load, weights
from jaxbert.memory import check_memory
from jaxbert.model.attention import Attend, dense
from jaxbert.model.axes import Hidden, Scores
from jaxbert.model.transformer import Inputs, Transformer
from jaxbert.modules import transformer_folder
from jaxbert.saving import save_encoder


class Encoder(Transformer):
    """A Transformer for arrays of any integer type, from a folder or drawn at random.

    Encoder(config, rngs=nnx.Rngs(0)) has the arguments of Transformer. A subclass that overrides
    `forward` is what runs everywhere.
    """

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        revision: str | None = None,
        token: str | None = None,
        ignore_config: Sequence[str] = (),
    ) -> "Encoder":
        """The encoder of a Hugging Face folder or hub name, every tensor accounted for.

        dtype is that of the weights here, float32 whatever is stored. Raises CheckpointError for
        anything missing, left over, misshapen, not finite or not understood; ignore_config names
        keys of config.json that may be passed over. attention=None chooses by length and platform.
        """
        folder = transformer_folder(hub.resolve(name, revision=revision, token=token))
        stored = checkpoint.open_folder(folder, ignore_config=ignore_config)
        return cls.from_checkpoint(stored, dtype=dtype, attention=attention)

    @classmethod
    def from_checkpoint(
        cls,
        stored: checkpoint.Checkpoint,
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
    ) -> "Encoder":
        """The encoder that an opened checkpoint describes, with its weights."""
        dtype = check_dtype(dtype)
        return load(stored, lambda c: cls(c, rngs=nnx.Rngs(0), attention=attention), dtype)

    def weights(self) -> dict[str, jax.Array]:
        """Every weight by its path, such as layers.attention.query.weight with leading axis l."""
        return weights(self)

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write config.json and model.safetensors; refuses parts that these cannot describe."""
        save_encoder(self, lambda config: Encoder(config, rngs=nnx.Rngs(0)), folder)

    def prepared(self, attention: Attend, *texts: Any) -> Inputs:
        """What callers pass, as the strict types hold it, if the device can hold it too."""
        inputs = prepare(self.config, self.position.limit, *texts)
        if not isinstance(inputs.ids, jax.core.Tracer):  # a trace may be for another device
            dtype = self.dtype
            check_memory(self.config, attention, dtype, *inputs.ids.shape)
        return inputs

    def __call__(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
        *,
        segment_ids: ArrayInput | None = None,
        positions: ArrayInput | None = None,
    ) -> Hidden:
        """The last states [b, t, d]; rows of padding hold numbers that mean nothing.

        NumPy or JAX integers [b, t]; a mask of 0 and 1, or segment_ids (0: padding) for several
        texts in a row. Raises InputError for ids outside the vocabulary and for texts beyond a
        learned table of positions.
        """
        texts = (input_ids, attention_mask, token_type_ids, segment_ids, positions)
        return _forward(self, self.prepared(self.attention, *texts))

    def hidden_states(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> list[Hidden]:
        """The states after the embeddings and after each layer: l + 1 arrays [b, t, d]."""
        texts = (input_ids, attention_mask, token_type_ids)
        first, rest = _forward_states(self, self.prepared(self.attention, *texts))
        return [first, *rest]

    def attentions(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> list[Scores]:
        """Who looks at whom: one array [b, n, t, s] per layer, rows summing to one (float32)."""
        texts = (input_ids, attention_mask, token_type_ids)
        return _forward_attentions(self, self.prepared(dense, *texts))


# Jitted once for all encoders: an eager scan would cost a third of a second in every call.
_forward = jax.jit(lambda encoder, inputs: encoder.forward(inputs))
_forward_states = jax.jit(lambda encoder, inputs: encoder.forward_states(inputs))
_forward_attentions = jax.jit(lambda encoder, inputs: encoder.forward_attentions(inputs))
