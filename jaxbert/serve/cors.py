"""Cross-origin requests: refused by browsers unless the operator names the origins."""

import re
from collections.abc import Collection

Headers = list[tuple[bytes, bytes]]
EXPOSED = b"x-request-id, x-jaxbert-truncated, retry-after, retry-after-ms"
TAKEN = b"authorization, content-type, x-request-id"
# Names of headers between commas (RFC 9110, section 5.6.2), as many as a browser's page may send.
NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: *, *[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
MOST_BYTES = 4096


class Cors:
    """The origins whose pages may call this server; none by default."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        """origins are such as https://example.org, or * for all."""
        self.origins = frozenset(origins)

    def headers(self, origin: bytes | None) -> Headers:
        """The headers of an answer to a page of that origin; none for others."""
        if not self.origins or origin is None:
            return []
        if "*" in self.origins:
            allowed = b"*"
        elif origin.decode("latin-1") in self.origins:
            allowed = origin
        else:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]

    def preflight(self, origin: bytes | None, asked: bytes | None = None) -> Headers | None:
        """The headers that answer a browser's question before a request; None to answer 405.

        asked is its Access-Control-Request-Headers. All of those are allowed, for clients send
        headers of their own that change nothing here, as openai's does.
        """
        headers = self.headers(origin)
        if len(headers) < 2:
            return None
        named = asked is not None and len(asked) <= MOST_BYTES and NAMES.fullmatch(asked)
        allowed = asked if named and asked else TAKEN
        return [
            *headers,
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", allowed),
            (b"vary", b"access-control-request-headers"),
            (b"access-control-max-age", b"600"),
        ]
