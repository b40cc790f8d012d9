"""Texts that occur more than once in a call, embedded once.

By default the company of a text in its batch moves the last bits of its vector, so that equal texts
would have nearly equal scores; a metric or a search that sorts by score would order them by those.
"""

from collections.abc import Callable

import numpy as np

from jaxbert.errors import ComputationError, TextError


def each_once(texts: list[str], encode: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """The vectors [n, d] of n texts, each distinct one encoded once: equal texts have equal rows.

    Raises what `encode` does; an error about a text names its first place among all.
    """
    places = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    if len(places) == len(texts):
        return encode(texts)
    others = list(places)
    try:
        vectors = encode(others)
    except ComputationError as error:
        first = texts.index(others[error.text])
        raise ComputationError(f"text {first}", first, error.fault) from error
    except TextError as error:
        raise TextError(texts.index(others[error.text]), error.reason) from error
    return vectors[[places[text] for text in texts]]
