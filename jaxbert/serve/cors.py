"""Cross-origin requests: refused by browsers unless the operator names the origins."""

from collections.abc import Collection

Headers = list[tuple[bytes, bytes]]
EXPOSED = b"x-request-id, x-jaxbert-truncated, retry-after"


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

    def preflight(self, origin: bytes | None) -> Headers | None:
        """The headers that answer a browser's question before a request; None to answer 405."""
        headers = self.headers(origin)
        if len(headers) < 2:
            return None
        return [
            *headers,
            (b"access-control-allow-methods", b"GET, POST"),
            (b"access-control-allow-headers", b"authorization, content-type, x-request-id"),
            (b"access-control-max-age", b"600"),
        ]
