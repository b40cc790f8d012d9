"""The JSON of answers; of large ones piece by piece, so that the event loop is held up by none."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson

# Values whose JSON is made on the event loop, in some 2 ms; that of more in a thread.
INLINE = 50_000
# Flat values of a list that are one piece.
SLICE = 1000


def as_json(content: Any) -> bytes:
    """JSON of dicts, lists and arrays of NumPy."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


async def written(content: Any, values: int) -> bytes:
    """The JSON of content, which has about so many values."""
    if values <= INLINE:
        return as_json(content)
    return await asyncio.to_thread(lambda: b"".join(pieces(content)))


def pieces(content: Any) -> Iterator[bytes]:
    """as_json(content) in pieces: orjson keeps Python's lock until it has written all of one."""
    if isinstance(content, dict) and nested(content):
        for i, (key, value) in enumerate(content.items()):
            yield (b"," if i else b"{") + as_json(key) + b":"
            yield from pieces(value)
        yield b"}"
    elif isinstance(content, list) and content:
        step = 1 if nested(content[0]) else SLICE
        for i in range(0, len(content), step):
            yield b"," if i else b"["
            if step == 1:
                yield from pieces(content[i])
            else:
                yield as_json(content[i : i + step])[1:-1]
        yield b"]"
    else:
        yield as_json(content)


def nested(value: Any) -> bool:
    """Whether a value holds more than a few others."""
    if isinstance(value, dict):
        return any(map(nested, value.values()))
    return isinstance(value, list | np.ndarray)
