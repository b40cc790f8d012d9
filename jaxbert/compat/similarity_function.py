"""The names of similarities as an enumeration, as sentence-transformers has it."""

from enum import Enum


class SimilarityFunction(Enum):
    """What `similarity` computes; `value` is the name that models take."""

    COSINE = "cosine"
    DOT_PRODUCT = "dot"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"

    @staticmethod
    def possible_values() -> list[str]:
        """All names that a model can have."""
        return [kind.value for kind in SimilarityFunction]
