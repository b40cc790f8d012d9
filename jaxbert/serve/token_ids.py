"""Token ids in requests: checking that they can be this model's, and describing them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxbert.embedder import Embedder
from jaxbert.serve.wire.errors import RequestError
from jaxbert.text.tokenizer import Tokenizer, Tokens


def check_ids(embedder: Embedder, rows: Sequence[Sequence[int]]) -> None:
    """Raise RequestError for ids that are no text of this model: beyond it, or without its frame.

    The frame is the special tokens that the tokenizer puts around every text.
    """
    most, vocabulary = embedder.max_seq_length, embedder.encoder.config.vocab_size
    before, after = frame(embedder.tokenizer)
    for i, row in enumerate(rows):
        if len(row) > most:
            raise RequestError(
                f"input {i} has {len(row)} token ids, and the maximum is {most}; shorten it",
                code="context_length_exceeded",
                param="input",
            )
        if max(row) >= vocabulary:
            raise RequestError(
                f"input {i} has the token id {max(row)}, but the model has {vocabulary} tokens; "
                "send texts, or ids of this model's tokenizer",
                code="token_input",
                param="input",
            )
        framed = list(row[: len(before)]) == before and list(row[len(row) - len(after) :]) == after
        if not framed or len(row) < len(before) + len(after):
            raise RequestError(
                f"input {i} does not begin with the token ids {before} and end with {after}, as "
                "every text of this model does; add its special tokens",
                code="token_input",
                param="input",
            )


def frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids of the special tokens before and after every text."""
    (tokens,) = tokenizer.detailed(["a"])
    plain = np.flatnonzero(~tokens.special)
    first, last = (int(plain[0]), int(plain[-1]) + 1) if len(plain) else (len(tokens.ids), 0)
    return tokens.ids[:first].tolist(), tokens.ids[max(first, last) :].tolist()


def described(tokenizer: Tokenizer, text: str, tokens: Tokens) -> list[dict[str, Any]]:
    """One text's tokens; special ones have no place in it."""
    rows = zip(tokens.ids.tolist(), tokens.offsets.tolist(), tokens.special.tolist(), strict=True)
    return [
        {
            "id": number,
            "text": tokenizer.backend.id_to_token(number) if special else text[start:stop],
            "special": special,
            "start": None if special else start,
            "stop": None if special else stop,
        }
        for number, (start, stop), special in rows
    ]
