"""Pairs of texts as inputs of encode: read together, the second with a token type of its own.

Source: sentence-transformers 6.2, base/modules/transformer.py: a pair is given to the tokenizer as
one, and pooled as a text is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxbert.arguments import plain_text
from jaxbert.embedder import Embedder
from jaxbert.inference.outputs import Finish
from jaxbert.inference.pair_request import pair_windows, typed_pairs
from jaxbert.inference.request import Request
from jaxbert.inference.scoring import Pair, checked_pair, checked_pairs

Encode = Callable[[list[Any]], Any]


def is_listed_pair(item: Any) -> bool:
    """Whether an input is a pair and no text."""
    return isinstance(item, list | tuple | np.ndarray)


def has_pairs(inputs: Any) -> bool:
    """Whether some of a list of inputs are pairs."""
    return isinstance(inputs, list | tuple) and any(map(is_listed_pair, inputs))


def texts_and_pairs(inputs: Sequence[Any], texts: Encode, pairs: Encode) -> list[Any]:
    """What `texts` gives of the texts and `pairs` of the pairs, in the order of the inputs.

    Raises InputTypeError for an input that is neither.
    """
    for i, item in enumerate(inputs):
        (checked_pair if is_listed_pair(item) else plain_text)(i, item)
    found: list[Any] = [None] * len(inputs)
    for encode, wanted in ((texts, False), (pairs, True)):
        chosen = [i for i, item in enumerate(inputs) if is_listed_pair(item) is wanted]
        results = encode([inputs[i] for i in chosen]) if chosen else ()
        for i, own in zip(chosen, results, strict=True):
            found[i] = own
    return found


def encode_pairs(
    embedder: Embedder, request: Request, inputs: list[Any], output_value: Any, finish: Finish
) -> Any:
    """The vectors [n, d] of pairs, the states of each, or a dict of both, as Embedder.encode."""
    pairs = checked_pairs(inputs)
    if output_value == "sentence_embedding":
        return finish(vectors(embedder, request, pairs))
    states, tokens = states_of(embedder, request, pairs)
    if output_value == "token_embeddings":
        return states
    masks = [np.arange(len(own)) >= request.skipped for own in states]
    pooled = finish(embedder.engine.pool(states, masks))
    return [as_dict(*own) for own in zip(states, tokens, pooled, strict=True)]


def windows(embedder: Embedder, request: Request, pairs: list[Pair]) -> Any:
    """The tokens of the pairs, a window at a time."""
    typed = typed_pairs(embedder.tokenizer, embedder.encoder.config.type_vocab_size)
    return pair_windows(embedder.tokenizer, pairs, request.prefix, request.long.most, typed)


def vectors(embedder: Embedder, request: Request, pairs: list[Pair]) -> np.ndarray:
    """The vectors [n, width] of pairs in float32, before Finish."""
    engine, skipped = embedder.engine, np.array(request.skipped, np.int32)
    found = np.zeros((len(pairs), engine.width), np.float32)
    tokens = windows(embedder, request, pairs)
    with request.counted(len(pairs)) as done:
        for members, rows in engine.run(engine.vectors, tokens, request.batch_size, skipped):
            found[members] = rows
            done(len(members))
    return found


def states_of(
    embedder: Embedder, request: Request, pairs: list[Pair]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The states [t, d] of the tokens of each pair; and its ids [t], or ids and types [2, t]."""
    engine = embedder.engine
    kept = list(windows(embedder, request, pairs))
    tokens = [own for window in kept for own in window]
    states: dict[int, np.ndarray] = {}
    with request.counted(len(pairs)) as done:
        for members, rows in engine.run(engine.states, kept, request.batch_size):
            for pair, row in zip(members, rows, strict=True):
                states[int(pair)] = row[: tokens[pair].shape[-1]].copy()
            done(len(members))
    return [states[i] for i in range(len(tokens))], tokens


def as_dict(states: np.ndarray, tokens: np.ndarray, vector: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of a pair by sentence-transformers' names."""
    ids, types = tokens if tokens.ndim == 2 else (tokens, np.zeros_like(tokens))
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": types,
        "token_embeddings": states,
        "sentence_embedding": vector,
    }
