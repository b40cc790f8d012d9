"""The ASGI application: from a request's head to its answer, whatever happens in between."""

import asyncio
import logging
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from jaxbert.serve import page, routes
from jaxbert.serve.body import ClientGoneError, Receive, drain, parsed, read_body
from jaxbert.serve.cors import Cors, Headers
from jaxbert.serve.keys import ApiKeys
from jaxbert.serve.metrics import CONTENT_TYPE
from jaxbert.serve.openapi import described
from jaxbert.serve.refusals import refusal
from jaxbert.serve.state import State
from jaxbert.serve.wire.errors import OPENAI, Family, RequestError
from jaxbert.serve.written import as_json, written

log = logging.getLogger("jaxbert.serve")
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
JSON = "application/json"


@dataclass(frozen=True)
class BodyLimits:
    """The most bytes of a body, and the seconds that it may take to arrive."""

    size: int = 8 * 2**20
    seconds: float = 30.0


@dataclass(frozen=True)
class Response:
    """An answer before it is sent."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Headers = field(default_factory=list)


class Request:
    """One request: its head, and what has been learnt of it on the way."""

    def __init__(self, scope: MutableMapping[str, Any], receive: Receive) -> None:
        """scope and receive are ASGI's."""
        self.method, self.path = str(scope["method"]), str(scope["path"])
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        given = self.headers.get(b"x-request-id", b"")
        ours = uuid.uuid4().hex
        self.id = given.decode("ascii") if REQUEST_ID.fullmatch(given) else ours
        self.label = routes.label(self.path)
        length = self.headers.get(b"content-length", b"0")
        self.unread = length != b"0" or b"transfer-encoding" in self.headers
        post = routes.POSTS.get(self.path)
        self.family: Family = OPENAI if post is None else post.family

    async def read(self, limits: BodyLimits) -> bytes:
        """The body, after which nothing of the request is left to be read."""
        announced = self.headers.get(b"content-length")
        found = await read_body(self.receive, announced, limits.size, limits.seconds)
        self.unread = False
        return found


class App:
    """An ASGI application over the state of a server."""

    def __init__(
        self,
        state: State,
        keys: ApiKeys | None = None,
        cors: Cors | None = None,
        limits: BodyLimits | None = None,
    ) -> None:
        """Without keys every request is taken, without cors no page of another origin may ask."""
        self.state, self.metrics = state, state.metrics
        self.keys, self.cors, self.limits = (
            keys or ApiKeys(),
            cors or Cors(),
            limits or BodyLimits(),
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; a client that goes away before ends its own work alone."""
        if scope["type"] != "http":
            await other(scope["type"], receive, send)
            return
        start, request = time.perf_counter(), Request(scope, receive)
        try:
            response = await self.respond(request)
        except ClientGoneError:
            self.metrics.answered(request.label, 499, time.perf_counter() - start)
            return
        except Exception as error:
            response = self.refused(request, error)
        await self.write(request, response, send)
        self.metrics.answered(request.label, response.status, time.perf_counter() - start)

    async def respond(self, request: Request) -> Response:
        """The answer to a request. Raises whatever `refused` can put into words."""
        if request.method == "OPTIONS" and self.preflight(request) is not None:
            return Response(b"", 204)
        post = routes.POSTS.get(request.path)
        self.check_method(request, "GET" if post is None else "POST")
        if request.path not in routes.OPEN and not self.keys.allow(
            request.headers.get(b"authorization")
        ):
            raise RequestError(
                "the key is missing or wrong; send it as Authorization: Bearer KEY",
                status=401,
                code="invalid_api_key",
            )
        if post is None:
            return self.get(request.path)
        served = self.state.models()
        document = parsed(await request.read(self.limits))
        request.family = post.family_of(document)
        reply = await unless_gone(request.receive, post.answer(served, post.read(document)))
        self.metrics.truncated.inc(reply.truncated)
        cut = [(b"x-jaxbert-truncated", b"%d" % reply.truncated)] if reply.truncated else []
        return Response(await written(reply.content, reply.values), headers=cut)

    def preflight(self, request: Request) -> Headers | None:
        """The headers for a browser that asks whether a page may; None where it may not."""
        asked = request.headers.get(b"access-control-request-headers")
        return self.cors.preflight(request.headers.get(b"origin"), asked)

    def check_method(self, request: Request, method: str) -> None:
        """Raise RequestError for a path that there is not, or that is asked otherwise."""
        if request.label == "other":
            raise RequestError(
                f"there is no path {request.path!r} here; GET /openapi.json lists those that are",
                status=404,
                code="unknown_path",
            )
        if request.method != method and (request.method, method) != ("HEAD", "GET"):
            raise RequestError(
                f"{request.path} is asked with {method}, not with {request.method}",
                status=405,
                code="method_not_allowed",
            )

    def get(self, path: str) -> Response:
        """The answer of a path that takes no body."""
        state = self.state
        if path == "/":
            return Response(page.html(), content_type="text/html; charset=utf-8", headers=page.SAFE)
        if path == "/metrics":
            return Response(self.metrics.text(), content_type=CONTENT_TYPE)
        if path == "/ready":
            found = as_json(state.readiness())
            again = [] if state.ready else [(b"retry-after", b"5")]
            return Response(found, 200 if state.ready else 503, headers=again)
        if path.startswith(routes.ONE_MODEL):
            return Response(as_json(state.one(path.removeprefix(routes.ONE_MODEL))))
        answers: Mapping[str, Callable[[], Any]] = {
            "/health": state.health,
            "/info": state.info,
            "/openapi.json": described,
            "/v1/models": state.listed,
        }
        return Response(as_json(answers[path]()))

    def refused(self, request: Request, error: Exception) -> Response:
        """The answer that says why there is none, in the words of the path's vendor."""
        found = refusal(self.state.meant(error), request.id)
        if found.status == 500:
            log.error("request %s to %s failed", request.id, request.label, exc_info=error)
        headers: Headers = []
        if found.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(found.retry_after))))
            headers.append((b"retry-after-ms", b"%d" % max(1, round(found.retry_after * 1000))))
        if found.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if found.status == 405:
            allowed = b"POST" if request.path in routes.POSTS else b"GET, HEAD"
            headers.append((b"allow", allowed))
        return Response(as_json(request.family.body(found)), found.status, headers=headers)

    async def write(self, request: Request, response: Response, send: Send) -> None:
        """Send an answer; the connection ends with it where the body was not read, or all ends."""
        origin = request.headers.get(b"origin")
        cors = self.cors.headers(origin)
        if response.status == 204:
            cors = self.preflight(request) or []
        headers = [
            (b"content-type", response.content_type.encode("ascii")),
            (b"content-length", b"%d" % len(response.body)),
            (b"x-request-id", request.id.encode("ascii")),
            *response.headers,
            *cors,
        ]
        if request.unread or self.state.draining:  # so that clients send the next one elsewhere
            headers.append((b"connection", b"close"))
        head = {"type": "http.response.start", "status": response.status, "headers": headers}
        await send(head)
        body = {"type": "http.response.body", "body": response.body}
        if request.unread:
            await send(body | {"more_body": True})
            await drain(request.receive)
            body = {"type": "http.response.body", "body": b""}
        await send(body)


async def unless_gone(receive: Receive, work: Awaitable[Any]) -> Any:
    """What the work gives. Raises ClientGoneError, after cancelling it, if the client goes."""
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        task.cancel()
        watch.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def gone(receive: Receive) -> None:
    """Wait until the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def other(kind: str, receive: Receive, send: Send) -> None:
    """What is no HTTP: begin and end as the server says, close a web socket."""
    if kind != "lifespan":
        await receive()
        await send({"type": "websocket.close", "code": 1003})
        return
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
