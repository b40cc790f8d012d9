"""The port of a server, opened before anything heavy is imported."""

import socket

from jaxbert.errors import InputError

BACKLOG = 2048


def opened(host: str, port: int) -> socket.socket:
    """A socket that listens: what connects from now on waits for the server, and is not refused.

    Port 0 takes one that is free. Raises InputError for an address that cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol by name: asyncio turns off the delay of small packets only where it is said, and
    # the end of an answer would wait 40 ms for the client to confirm its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"{host}:{port} cannot be listened on ({error}); choose another --port or --host"
        ) from error
    listener.setblocking(False)
    return listener


def url(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
