"""Vectors that others have published for known weights, and the same vectors of a model here."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np

from jaxbert.encoder import Encoder
from jaxbert.errors import InputError
from jaxbert.inference.similarity import unit_length
from jaxbert.model.head import pool
from jaxbert.text.tokenizer import Tokenizer
from jaxbert.verify.compare import cosine
from jaxbert.verify.opened import Model


@dataclass(frozen=True, kw_only=True)
class PublishedVector:
    """One published vector, or its first components; or the cosine of two texts' vectors."""

    model: str  # the hub's name
    source: str  # repository and file
    how: str  # what computed it, and where the tolerance comes from
    text: str
    value: Literal["mean", "cls", "token"]  # the state, pooled in one of two ways or of one token
    width: int  # of the whole vector
    components: tuple[float, ...]
    tolerance: float  # the largest difference of a component
    cosine: float | None = None  # the least cosine, where the whole vector is there
    normalised: bool = False
    row: int | None = None  # which token, [CLS] being 0
    other: str | None = None  # a second text: the only component is the cosine of both vectors
    revision: str | None = None  # of the weights, where the source names one

    @property
    def whole(self) -> bool:
        """Whether all components of the vector are there."""
        return self.other is None and len(self.components) == self.width

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        name = f"token {self.row}" if self.value == "token" else self.value
        if self.other is not None:
            return f"cosine of {name}s"
        return name + (", length one" if self.normalised else "")

    def compute(self, model: Model) -> np.ndarray:
        """Our vector of the text [width], pooled as this entry says; or the cosine of both, [1].

        Raises InputError for an encoder of another width, which is of another model.
        """
        encoder, tokenizer = model.encoder, model.needed_tokenizer
        width = encoder.config.hidden_size
        if width != self.width:
            raise InputError(
                f"vectors of {self.model} have {self.width} components, but this encoder makes "
                f"{width}: it is another model, so compare it with what is published for its own "
                "name"
            )
        ours = vector(self, self.text, encoder, tokenizer)
        if self.other is None:
            return ours
        beside = vector(self, self.other, encoder, tokenizer)
        return np.array([cosine(ours[None], beside[None])])


def vector(entry: PublishedVector, text: str, encoder: Encoder, tokenizer: Tokenizer) -> np.ndarray:
    """float32 [width]; NaN where the text has no such token."""
    ids = tokenizer([text])[0][None]
    states = encoder(ids).astype(jnp.float32)
    if entry.row is not None:
        found = np.full(entry.width, np.nan, np.float32)
        if entry.row < ids.shape[1]:
            found = np.asarray(states[0, entry.row])
    else:
        found = np.asarray(pool(states, jnp.ones(ids.shape, bool), (entry.value,))[0])
    return unit_length(found) if entry.normalised else found
