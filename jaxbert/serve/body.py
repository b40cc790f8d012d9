"""Reading a request's body: no longer than a limit, no slower than a time, and then as JSON."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

import orjson

from jaxbert.serve.wire.errors import RequestError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
# After a refusal the rest of a body is read and thrown away for so long, since a connection that
# is closed over unread bytes is reset, and the client might never see why.
LINGER_SECONDS = 2.0


class ClientGoneError(Exception):
    """The client has closed the connection before it had its answer."""


async def read_body(receive: Receive, announced: bytes | None, most: int, seconds: float) -> bytes:
    """The whole body. Raises RequestError (413, 408), ClientGoneError.

    announced is the header Content-Length; a body that announces too much is refused unread.
    """
    if announced is not None and announced.isdigit() and int(announced) > most:
        raise too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise too_large(most)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise RequestError(
            f"the body did not arrive within {seconds:g} s; send it faster, or in several requests",
            status=408,
            code="body_timeout",
        ) from None


def too_large(most: int) -> RequestError:
    """The refusal of a body beyond `most` bytes."""
    return RequestError(
        f"the body is larger than {most} bytes; send the texts in several requests",
        status=413,
        code="body_too_large",
    )


async def drain(receive: Receive) -> None:
    """Read what a client still sends of a refused body, for a moment at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def parsed(body: bytes) -> Any:
    """The JSON of a body. Raises RequestError for anything else, whatever is wrong with it.

    NaN, invalid UTF-8, lone surrogates and brackets nested too deep are no JSON for orjson.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is no valid JSON ({error})", code="invalid_json") from error
