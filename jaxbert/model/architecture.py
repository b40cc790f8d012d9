"""What makes an encoder of a config: its components, a maker for each layer, and the embeddings."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxbert.model.components import Components, Make
from jaxbert.model.transformer import Embeddings, Layer


class Architecture(NamedTuple):
    """The parts of one encoder, as Transformer takes them."""

    components: Components
    layers: Sequence[Make]
    embeddings: Make = Embeddings

    @classmethod
    def of_equal_layers(
        cls, components: Components, layers: int, layer: Make = Layer, embeddings: Make = Embeddings
    ) -> "Architecture":
        """An architecture in which all layers have one maker."""
        return cls(components, [layer] * layers, embeddings)
