"""BERT and JinaBERT text embeddings in JAX and Flax.

Names are imported when they are first used, so that `import jaxbert` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jaxbert.process import forked as forked  # watches forks from now on

if TYPE_CHECKING:
    from jaxbert.cross_encoder import CrossEncoder as CrossEncoder
    from jaxbert.embedder import Embedder as Embedder
    from jaxbert.encoder import Encoder as Encoder
    from jaxbert.errors import JaxbertError as JaxbertError
    from jaxbert.inference.apart import Apart as Apart
    from jaxbert.inference.outputs import TokenEmbeddings as TokenEmbeddings
    from jaxbert.inference.pooling import mean_pool as mean_pool
    from jaxbert.inference.quantise import Ranges as Ranges
    from jaxbert.inference.quantise import quantize_embeddings as quantize_embeddings
    from jaxbert.inference.queue import AsyncEmbedder as AsyncEmbedder
    from jaxbert.inference.queue_pairs import AsyncCrossEncoder as AsyncCrossEncoder
    from jaxbert.masked_lm import MaskedLM as MaskedLM
    from jaxbert.model.attention import attend as attend
    from jaxbert.model.config import EncoderConfig as EncoderConfig
    from jaxbert.model.position import Bias as Bias
    from jaxbert.model.position import Position as Position
    from jaxbert.multi_vector import MultiVectorEncoder as MultiVectorEncoder

__version__ = "0.1.0"

_HOME = {
    "Apart": "inference.apart",
    "AsyncCrossEncoder": "inference.queue_pairs",
    "AsyncEmbedder": "inference.queue",
    "Bias": "model.position",
    "CrossEncoder": "cross_encoder",
    "Embedder": "embedder",
    "Encoder": "encoder",
    "EncoderConfig": "model.config",
    "JaxbertError": "errors",
    "MaskedLM": "masked_lm",
    "MultiVectorEncoder": "multi_vector",
    "Position": "model.position",
    "Ranges": "inference.quantise",
    "TokenEmbeddings": "inference.outputs",
    "attend": "model.attention",
    "mean_pool": "inference.pooling",
    "quantize_embeddings": "inference.quantise",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it."""
    if name not in _HOME:
        raise AttributeError(f"module 'jaxbert' has no attribute {name!r}")
    return getattr(import_module(f"jaxbert.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The names that `jaxbert` offers, for completion."""
    return list(__all__)
