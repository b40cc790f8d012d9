"""A trained model -> a folder that Embedder, MaskedLM, sentence-transformers and transformers load.

transformers 5 has no JinaBERT of its own, and the published remote code imports a function that it
no longer has; such a folder is for this package, and for versions that run that code.
"""

from dataclasses import replace
from typing import Any

import jax
import numpy as np

from jaxbert.checkpoint.sentence_transformers.stack import Stack
from jaxbert.embedder import Embedder
from jaxbert.masked_lm import MaskedLM
from jaxbert.model.head import Dense, DenseLayer, Normalize
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.train.models import MaskedModel, TextModel


def on_one_device(module: Any) -> Any:
    """The module on the first device, with arrays of its own: a step uses up those of its state."""
    first = jax.local_devices()[0]
    return jax.tree.map(lambda leaf: jax.device_put(np.array(leaf), first), module)


def stack_of(model: TextModel, stack: Stack) -> Stack:
    """The stack with the trained weights of its Dense modules."""
    after: list[Dense | Normalize] = []
    for step, own in zip(stack.after, model.head.after, strict=True):
        if isinstance(step, Dense) and isinstance(own, DenseLayer):
            bias = None if own.bias is None else np.asarray(own.bias[...])
            after.append(Dense(np.asarray(own.weight[...]), bias, step.activation))
        else:
            after.append(step)
    return replace(stack, after=tuple(after))


def text_embedder(model: TextModel, tokenizer: Tokenizer, stack: Stack) -> Embedder:
    """The Embedder of a trained model; stack is the one that its head was made of."""
    return Embedder(on_one_device(model.encoder), tokenizer, stack_of(model, stack))


def masked_lm(model: MaskedModel, tokenizer: Tokenizer, mask_token: str = "[MASK]") -> MaskedLM:
    """The MaskedLM of a trained model, for texts as long as its positions or its config say."""
    encoder = on_one_device(model.encoder)
    longest = encoder.position.limit or encoder.config.max_positions
    return MaskedLM(
        encoder, on_one_device(model.head), tokenizer, mask_token=mask_token, max_length=longest
    )
