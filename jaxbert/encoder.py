"""The encoder that callers meet: a Transformer that checks its inputs, opens and saves folders."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxbert.arguments import integer
from jaxbert.checkpoint.module import load, weights
from jaxbert.checkpoint.opening import open_model
from jaxbert.checkpoint.own.folder import OwnCheckpoint
from jaxbert.checkpoint.own.loading import check_given, check_names, load_own
from jaxbert.checkpoint.saving import save_encoder, save_own
from jaxbert.checkpoint.tensors import Checkpoint
from jaxbert.inference.inputs import ArrayInput, check_dtype, check_makers, check_parts, prepare
from jaxbert.inference.memory import check_memory
from jaxbert.model.architectures import architecture_of
from jaxbert.model.attention import Attend, dense
from jaxbert.model.axes import Hidden, Scores
from jaxbert.model.components import Components, Make
from jaxbert.model.config import EncoderConfig
from jaxbert.model.copyable import Copyable
from jaxbert.model.module import first_weight
from jaxbert.model.position import Position
from jaxbert.model.transformer import Transformer
from jaxbert.process.backend import computing, device_of


class Encoder(Copyable, Transformer):
    """A Transformer for arrays of any integer type, from a folder or drawn at random.

    Encoder(config, rngs=nnx.Rngs(0)) has random weights. A subclass that overrides `forward` is
    what runs everywhere.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        rngs: nnx.Rngs,
        position: Position | None = None,
        feed_forward: Callable[[nnx.Rngs], nnx.Module] | None = None,
        attention: Attend | None = None,
        components: Components | None = None,
        layers: Sequence[Make] | None = None,
        embeddings: Make | None = None,
    ) -> None:
        """Random weights; the components that config names, or those given here.

        position is a scheme, feed_forward a function of rngs that is called once per layer.
        components replaces all that config names; layers has a maker for each layer, embeddings is
        one for the tables (notes/03-positions.md). Raises InputTypeError and InputError.
        """
        check_parts(config, rngs, position, feed_forward, attention)
        check_makers(components, layers, embeddings)
        architecture = architecture_of(config)
        components = architecture.components if components is None else components
        if position is not None:
            components = components._replace(position=lambda rngs: position)
        if feed_forward is not None:
            components = components._replace(feed_forward=lambda rngs: feed_forward(rngs))
        super().__init__(
            config,
            rngs=rngs,
            components=components,
            attention=attention,
            layers=architecture.layers if layers is None else layers,
            embeddings=architecture.embeddings if embeddings is None else embeddings,
        )

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
        parts: Mapping[str, Any] | None = None,
    ) -> "Encoder":
        """The encoder of a Hugging Face folder or hub name, every tensor accounted for.

        dtype is that of the weights here, float32 whatever is stored. Raises CheckpointError for
        anything missing, left over, misshapen, not finite or not understood; ignore_config names
        keys of config.json that may be passed over. attention=None chooses by length and platform.
        parts is for a folder that was saved with parts: the same ones, whose code and leaves are
        compared with the folder's. No code is imported because a folder names it.
        """
        opened = open_model(name, revision=revision, token=token, ignore_config=ignore_config)
        return cls.from_checkpoint(opened.stored, dtype=dtype, attention=attention, parts=parts)

    @classmethod
    def from_checkpoint(
        cls,
        stored: Checkpoint,
        *,
        dtype: DTypeLike = jnp.float32,
        attention: Attend | None = None,
        device: jax.Device | None = None,
        parts: Mapping[str, Any] | None = None,
    ) -> "Encoder":
        """The encoder that an opened checkpoint describes, with its weights."""
        dtype = check_dtype(dtype)
        given = {"attention": attention, **check_given(stored, parts, attention)}

        def make(config: EncoderConfig) -> Encoder:
            return cls(config, rngs=nnx.Rngs(0), **given)

        if isinstance(stored, OwnCheckpoint):
            return load_own(stored, make, dtype, device)
        return load(stored, make, dtype, device)

    def weights(self) -> dict[str, jax.Array]:
        """Every weight by its path, such as layers.attention.query.weight with leading axis l."""
        return weights(self)

    def save_pretrained(
        self, folder: str | PathLike[str], *, parts: Mapping[str, Any] | None = None
    ) -> None:
        """Write config.json and model.safetensors in place of another encoder's.

        parts, by the arguments of Encoder, are those of a user's own code that it was made of, such
        as {"position": scheme}: jaxbert.json then names that code, and only this package loads the
        folder. Raises CheckpointError before anything is written for parts that the files cannot
        describe and for a folder with a tokenizer or pooling of a whole model; WriteError.
        """
        given = check_names(parts)
        with computing():
            if given:
                save_own(self, maker(given), given, folder)
            else:
                save_encoder(self, maker({}), folder)

    def layer(self, i: int) -> Any:
        """Layer i as a module by itself, whose weights have no leading axis l."""
        return super().layer(
            integer(i, "layer", -self.config.num_layers, self.config.num_layers - 1)
        )

    def run(
        self, function: Callable[..., Any], attention: Attend, *texts: Any, outputs: int = 0
    ) -> Any:
        """function(self, inputs) of what callers pass, if the device can hold it.

        outputs is the float32 numbers that the function gives for each token beside its state.
        """
        with computing():
            inputs = prepare(self.config, self.position.limit, *texts)
            if not isinstance(inputs.ids, jax.core.Tracer):  # a trace may be for another device
                (b, t), weight = inputs.ids.shape, first_weight(self.embeddings)
                has_bias, device = self.position.bias is not None, device_of(weight)
                about = (self.config, attention, weight.dtype)
                check_memory(*about, b, t, has_bias, device, outputs)
            return function(self, inputs)

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
        return self.run(_forward, self.attention, *texts)

    def hidden_states(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> list[Hidden]:
        """The states after the embeddings and after each layer: l + 1 arrays [b, t, d]."""
        texts = (input_ids, attention_mask, token_type_ids)
        first, rest = self.run(_forward_states, self.attention, *texts)
        return [first, *rest]

    def attentions(
        self,
        input_ids: ArrayInput,
        attention_mask: ArrayInput | None = None,
        token_type_ids: ArrayInput | None = None,
    ) -> list[Scores]:
        """The attention probabilities, one array [b, n, t, s] per layer in float32: rows sum to 1.

        They are those of the dense definition, also where attention computes other weights.
        """
        return self.run(_forward_attentions, dense, input_ids, attention_mask, token_type_ids)


def maker(parts: Mapping[str, Any]) -> Callable[[EncoderConfig], Encoder]:
    """A function from a config to an encoder with these parts, and all others as config says."""
    return lambda config: Encoder(config, rngs=nnx.Rngs(0), **parts)


# Jitted once for all encoders: an eager scan would cost a third of a second in every call.
_forward = jax.jit(lambda encoder, inputs: encoder.forward(inputs))
_forward_states = jax.jit(lambda encoder, inputs: encoder.forward_states(inputs))
_forward_attentions = jax.jit(lambda encoder, inputs: encoder.forward_attentions(inputs))
