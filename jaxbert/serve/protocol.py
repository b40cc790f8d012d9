"""uvicorn's HTTP/1.1, with an end to requests that never arrive and answers that nobody reads.

uvicorn times nothing until a request is complete: a client that sends half a head, or half a body,
holds its connection for ever and holds up the end of the server. Bodies are timed by body.py, which
sees them; heads are timed and bounded here, and when the server ends both have a moment more. Nor
does a connection close, for uvicorn, over an answer of which its client takes nothing.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jaxbert.serve.unread import Unread

HEAD_SECONDS = 10.0
HEAD_BYTES = 65_536
# For what a client was about to send at the end; on a busy machine that takes tenths of a second.
LAST_SECONDS = 0.5
# In which a client takes at least something of an answer.
WRITE_SECONDS = 30.0


class Protocol(HttpToolsProtocol):
    """One connection; its head is complete within HEAD_SECONDS and HEAD_BYTES, or it is closed.

    If nothing of an answer can be sent for WRITE_SECONDS, the connection is cut off.
    """

    head_seconds, write_seconds = HEAD_SECONDS, WRITE_SECONDS

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """Take uvicorn's arguments, and no head yet."""
        super().__init__(*arguments, **more)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request's head."""
        super().connection_made(transport)
        self._unread = Unread(self.loop, transport, self.write_seconds)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timers with the connection."""
        self._heard()
        self._unread.end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a head that grows beyond HEAD_BYTES is refused."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """The first byte of a head, also of a later request on the same connection."""
        super().on_message_begin()
        self._in_head = True
        if self._timer is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """The head is complete, so its time ends."""
        self._heard()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        """More of an answer waits than is sent at once: begin to watch that it goes."""
        super().pause_writing()
        self._unread.watch()

    def on_response_complete(self) -> None:
        """What is left of an answer is watched, also where the connection ends with it."""
        self._unread.watch()
        super().on_response_complete()

    @property
    def _busy(self) -> bool:
        """Whether a request is being read or answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _whole(self) -> bool:
        """Whether all of the last request is here, or its answer has begun."""
        return self._busy and (self.cycle.response_started or not self.cycle.more_body)

    def shutdown(self) -> None:
        """End the connection once its request is answered.

        What is not all here has a moment to come: a request that is on its way already, or the rest
        of one, as clients send head and body apart.
        """
        self._end(moments=2)  # the second is for a body whose head came in the first

    def _end(self, moments: int) -> None:
        """Close after the answer; where there is nothing to answer, after so many moments."""
        if self._whole:
            self.cycle.keep_alive = False
        elif self.pipeline:  # half of a request, behind one that is being answered
            self.loop.call_later(LAST_SECONDS, self._end, moments)
        elif moments > int(not self._busy):
            self.loop.call_later(LAST_SECONDS, self._end, moments - 1)
        else:
            self.transport.close()

    def _wait(self) -> None:
        """Begin the time that a head has."""
        self._head_bytes = 0
        self._timer = self.loop.call_later(self.head_seconds, self._late)

    def _heard(self) -> None:
        """End the time that a head has."""
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """The time of a head is over."""
        self._timer = None
        if self._busy:  # the head of a next request, which may be held back by this one's answer
            self._timer = self.loop.call_later(self.head_seconds, self._late)
        elif self._in_head:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()  # nothing was asked, so there is nothing to answer

    def _refuse(self, status: bytes) -> None:
        """Answer without the application, unless it is answering, and close."""
        if not self.transport.is_closing():
            if not self._busy:
                answer = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                self.transport.write(answer % status)
            self.transport.close()
