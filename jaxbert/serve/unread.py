"""Answers that a client does not read: a connection over them would never end."""

import asyncio


class Unread:
    """Cuts a connection off of whose answer nothing could be sent for some seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, seconds: float
    ) -> None:
        """Watch nothing yet; the transport may be closing when it is."""
        self.loop, self.transport, self.seconds = loop, transport, seconds
        self.left = 0  # bytes that waited when it was last looked
        self.timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Begin, or begin again with what has just been written, if some of it waits."""
        self.end()
        self.left = self.transport.get_write_buffer_size()
        if self.left:
            self.timer = self.loop.call_later(self.seconds, self.look)

    def look(self) -> None:
        """Cut the connection off unless some bytes have gone since."""
        if self.transport.get_write_buffer_size() >= self.left:
            self.transport.abort()
        else:
            self.watch()

    def end(self) -> None:
        """Watch no longer, as when the connection is gone."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
