"""Searching vectors exactly, without an index and without torch: a room imported by name.

from jaxbert.search import top_k
scores, indices = top_k(queries, corpus, 10)
"""

from jaxbert.search.communities import community_detection as community_detection
from jaxbert.search.maxsim import maxsim_top_k as maxsim_top_k
from jaxbert.search.mining import paraphrase_mining as paraphrase_mining
from jaxbert.search.searching import Search as Search
from jaxbert.search.searching import top_k as top_k
from jaxbert.search.stored import Bits as Bits
from jaxbert.search.stored import Bytes as Bytes

__all__ = [
    "Bits",
    "Bytes",
    "Search",
    "community_detection",
    "maxsim_top_k",
    "paraphrase_mining",
    "top_k",
]
