"""The functions of sentence_transformers.util that are used beside a model.

Arrays give arrays, and tensors give tensors. Source: sentence-transformers 6.2, util/.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxbert import search
from jaxbert.compat.similarity_function import SimilarityFunction as SimilarityFunction
from jaxbert.compat.tensors import as_numpy, as_theirs, is_tensor
from jaxbert.errors import InputError, InputTypeError, shown
from jaxbert.inference import similarity as ours
from jaxbert.inference.quantise import quantize_embeddings as quantize_embeddings

# Functions of theirs that are not here, with what there is instead.
ELSEWHERE = {
    "mine_hard_negatives": "sentence_transformers.util has it, and it takes a model of this module",
    "semantic_search_faiss": "jaxbert.search.top_k takes bits and bytes, exactly and without faiss",
    "semantic_search_usearch": "jaxbert.search.top_k takes bits and bytes, without usearch",
    "maxsim": "see jaxbert.MultiVectorEncoder and jaxbert.search.maxsim_top_k",
    "information_retrieval": "see jaxbert.search.top_k",
}
TORCH = "sentence_transformers.util has what works on torch's tensors and modules"


def __getattr__(name: str) -> Any:
    """Say where a function of theirs is, or which there are."""
    raise AttributeError(
        f"module 'jaxbert.compat.util' has no attribute {name!r}; {ELSEWHERE.get(name, TORCH)}. "
        f"Here are {', '.join(NAMES)}"
    )


NAMES = (
    "SimilarityFunction cos_sim dot_score euclidean_sim manhattan_sim pairwise_cos_sim "
    "pairwise_dot_score pairwise_euclidean_sim pairwise_manhattan_sim pytorch_cos_sim "
    "normalize_embeddings truncate_embeddings quantize_embeddings semantic_search "
    "paraphrase_mining paraphrase_mining_embeddings community_detection"
).split()


def like(given: Any, result: np.ndarray) -> Any:
    """The result as a tensor if what was given is one, or a list of them; else as it is."""
    inner = given[0] if isinstance(given, list | tuple) and given else given
    return as_theirs(result) if is_tensor(inner) else result


def matrix(kind: str, a: Any, b: Any) -> Any:
    """[n, d] and [m, d] -> [n, m]."""
    return like(a, ours.similarity(as_numpy(a), as_numpy(b), kind))


def diagonal(kind: str, a: Any, b: Any) -> Any:
    """[n, d] and [n, d] -> [n]."""
    return like(a, ours.similarity_pairwise(as_numpy(a), as_numpy(b), kind))


def cos_sim(a: Any, b: Any) -> Any:
    """The cosines [n, m] of vectors [n, d] and [m, d]."""
    return matrix("cosine", a, b)


def dot_score(a: Any, b: Any) -> Any:
    """The dot products [n, m] of vectors [n, d] and [m, d]."""
    return matrix("dot", a, b)


def euclidean_sim(a: Any, b: Any) -> Any:
    """The negative distances [n, m] of vectors [n, d] and [m, d]."""
    return matrix("euclidean", a, b)


def manhattan_sim(a: Any, b: Any) -> Any:
    """The negative sums of differences [n, m] of vectors [n, d] and [m, d]."""
    return matrix("manhattan", a, b)


def pairwise_cos_sim(a: Any, b: Any) -> Any:
    """The cosines [n] of the pairs of two lists of vectors."""
    return diagonal("cosine", a, b)


def pairwise_dot_score(a: Any, b: Any) -> Any:
    """The dot products [n] of the pairs of two lists of vectors."""
    return diagonal("dot", a, b)


def pairwise_euclidean_sim(a: Any, b: Any) -> Any:
    """The negative distances [n] of the pairs of two lists of vectors."""
    return diagonal("euclidean", a, b)


def pairwise_manhattan_sim(a: Any, b: Any) -> Any:
    """The negative sums of differences [n] of the pairs of two lists of vectors."""
    return diagonal("manhattan", a, b)


pytorch_cos_sim = cos_sim  # its former name in sentence-transformers


def normalize_embeddings(embeddings: Any) -> Any:
    """The vectors with length one."""
    return like(embeddings, ours.unit_length(np.asarray(as_numpy(embeddings), np.float32)))


def truncate_embeddings(embeddings: Any, truncate_dim: int | None) -> Any:
    """The first features of vectors in an array or a tensor.

    Raises InputTypeError for lists, which theirs refuses too.
    """
    if not hasattr(embeddings, "shape"):
        raise InputTypeError(f"embeddings are {shown(embeddings)}; pass an array or a tensor")
    return embeddings[..., :truncate_dim]


KINDS = {cos_sim: "cosine", dot_score: "dot", euclidean_sim: "euclidean"}
KINDS |= {manhattan_sim: "manhattan"}


def kind_of(score_function: Callable[..., Any]) -> str:
    """The similarity that a function of this module, or of a model, computes.

    sentence-transformers' functions of the same names count too. Raises InputError for others.
    """
    name = getattr(score_function, "__name__", "")
    model: Any = getattr(score_function, "__self__", None)
    if name == "similarity" and hasattr(model, "similarity_fn_name"):
        return str(model.similarity_fn_name)
    theirs = getattr(score_function, "__module__", "").startswith("sentence_transformers.")
    for known, kind in KINDS.items():
        if score_function is known or (theirs and name == known.__name__):
            return kind
    raise InputError(
        "score_function is a function of your own; pass cos_sim, dot_score, euclidean_sim, "
        "manhattan_sim or the similarity of a model"
    )


def semantic_search(
    query_embeddings: Any,
    corpus_embeddings: Any,
    query_chunk_size: int = 100,
    corpus_chunk_size: int = 500_000,
    top_k: int = 10,
    score_function: Callable[..., Any] = cos_sim,
) -> list[list[dict[str, Any]]]:
    """For each query the best of a corpus: [{"corpus_id", "score"}], the best first.

    The sizes of chunks change nothing; jaxbert.search.top_k gives the same as arrays.
    """
    asked, corpus = as_numpy(query_embeddings), as_numpy(corpus_embeddings)
    if len(corpus) == 0:  # an empty list is vectors of no width, which theirs takes too
        return [[] for _ in np.atleast_2d(asked)]
    scores, rows = search.top_k(asked, corpus, top_k, similarity=kind_of(score_function))
    return [
        [{"corpus_id": int(i), "score": float(s)} for i, s in zip(*both, strict=True)]
        for both in zip(rows, scores, strict=True)
    ]


def paraphrase_mining_embeddings(
    embeddings: Any,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Callable[..., Any] = cos_sim,
) -> list[list[Any]]:
    """The most similar pairs, [score, i, j] each, the best first; see jaxbert.search."""
    scores, pairs = search.paraphrase_mining(
        as_numpy(embeddings),
        neighbours=top_k,
        max_pairs=max_pairs,
        similarity=kind_of(score_function),
    )
    return [[float(s), int(i), int(j)] for s, (i, j) in zip(scores, pairs, strict=True)]


def paraphrase_mining(
    model: Any,
    sentences: Sequence[str],
    show_progress_bar: bool = False,
    batch_size: int | None = None,
    query_chunk_size: int = 5000,
    corpus_chunk_size: int = 100_000,
    max_pairs: int = 500_000,
    top_k: int = 100,
    score_function: Callable[..., Any] = cos_sim,
    truncate_dim: int | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> list[list[Any]]:
    """The most similar pairs of texts, [score, i, j] each, the best first."""
    vectors = model.encode(
        sentences,
        show_progress_bar=show_progress_bar,
        batch_size=batch_size,
        truncate_dim=truncate_dim,
        prompt_name=prompt_name,
        prompt=prompt,
    )
    return paraphrase_mining_embeddings(
        vectors, max_pairs=max_pairs, top_k=top_k, score_function=score_function
    )


def community_detection(
    embeddings: Any,
    threshold: float = 0.75,
    min_community_size: int = 10,
    batch_size: int = 1024,
    show_progress_bar: bool = False,
) -> list[list[int]]:
    """Groups of similar vectors, the largest first, each with its centre first."""
    found = search.community_detection(as_numpy(embeddings), threshold, min_community_size)
    return [own.tolist() for own in found]
