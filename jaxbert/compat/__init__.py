"""Code written for sentence-transformers runs with its import line changed to this module.

    from jaxbert.compat import CrossEncoder, SentenceTransformer, util

The classes take and give what theirs do, torch's tensors among it; torch is imported when a tensor
is to be made, and where it is not installed NumPy arrays are given in place of tensors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxbert.compat.cross_encoder import CrossEncoder as CrossEncoder
    from jaxbert.compat.sentence_transformer import SentenceTransformer as SentenceTransformer
    from jaxbert.compat.similarity_function import SimilarityFunction as SimilarityFunction
    from jaxbert.compat.util import quantize_embeddings as quantize_embeddings

_HOME = {
    "CrossEncoder": "cross_encoder",
    "SentenceTransformer": "sentence_transformer",
    "SimilarityFunction": "similarity_function",
    "quantize_embeddings": "util",
}
__all__ = [*_HOME, "util"]


def __getattr__(name: str) -> Any:
    """Import a name from the module that defines it."""
    if name == "util":
        return import_module("jaxbert.compat.util")
    if name not in _HOME:
        raise AttributeError(
            f"module 'jaxbert.compat' has no attribute {name!r}; it has {', '.join(__all__)}"
        )
    return getattr(import_module(f"jaxbert.compat.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The names that this module offers, for completion."""
    return list(__all__)
