"""The process of a server: the port opens at once, the models follow, signals end it in order."""

import asyncio
import contextlib
import math
import os
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import uvicorn

from jaxbert.process import interrupts, streams
from jaxbert.serve.address import BACKLOG
from jaxbert.serve.app import App
from jaxbert.serve.protocol import Protocol
from jaxbert.serve.served import Served

Made = TypeVar("Made")
# How long a connection without a request stays open. uvicorn's 5 s are also those after which
# httpx's clients close theirs, and a request that meets the server's end of it is lost; load
# balancers keep connections for 60 s.
KEPT_SECONDS = 75
# What the last batch, and the last answer's way to its client, may take beyond what is waited for.
LAST_SECONDS = 60
# For connections that wait at the port when it is about to close; asyncio accepts thousands in it.
ACCEPT_SECONDS = 1.0
# Turns of the event loop until a connection that one of them accepts is known to uvicorn: one that
# the port's end overtakes is left open, and never answered.
TURNS = 3


class Server(uvicorn.Server):
    """uvicorn's server without its own handling of signals, and with an end that loses nobody."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `Life`, which ends with status 0 where uvicorn raises them again."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, but after taking in the connections that wait at the port.

        The system has accepted these already: their clients have sent, and would find the
        connection reset. Those who keep connecting get no more than ACCEPT_SECONDS.
        """
        last, quiet = time.monotonic() + ACCEPT_SECONDS, 0
        while sockets and quiet < TURNS and time.monotonic() < last:
            await asyncio.sleep(0)
            quiet = 0 if waiting(sockets) else quiet + 1
        await super().shutdown(sockets)


def waiting(listeners: list[socket.socket]) -> bool:
    """Whether a connection waits to be accepted at one of the sockets."""
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ)
        return bool(selector.select(0))


class Life:
    """From the open port to the last answer."""

    def __init__(
        self,
        app: App,
        load: Callable[[], Awaitable[Served]],
        listener: socket.socket,
        grace: float = 0.0,
        longest: float = 150.0,
    ) -> None:
        """load makes the models, in threads of its own; grace is the wait before the port closes.

        In the grace /ready is 503 already, so that a load balancer stops sending. longest is the
        time that a request may take to arrive and wait: what is not answered LAST_SECONDS after it
        is given up, so that nothing holds up the end for ever.
        """
        self.app, self.load, self.listener, self.grace = app, load, listener, grace
        config = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            backlog=BACKLOG,
            timeout_keep_alive=KEPT_SECONDS,
            timeout_graceful_shutdown=math.ceil(longest) + LAST_SECONDS,
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self.server = Server(config)
        self.ending: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until a signal comes. Raises what loading raises."""
        handle(self.signalled)
        serving = asyncio.ensure_future(self.server.serve(sockets=[self.listener]))
        loading = asyncio.ensure_future(self.load())
        await asyncio.wait((loading, serving), return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
        elif loading.exception() is None:
            self.app.state.serve(loading.result())
            streams.say("jaxbert: ready")
        else:
            self.server.should_exit = True
        await serving
        if loading.done() and not loading.cancelled():
            served = loading.result()  # raises what loading has raised
            await served.queue.close()
            if served.ranker is not None:
                await served.ranker.close()

    def signalled(self, number: int) -> None:
        """The first signal drains the server, the second ends it at once."""
        if self.ending is not None:
            os._exit(128 + number)
        streams.say("jaxbert: answering what was accepted; once more ends it at once")
        self.app.state.drain()
        self.ending = asyncio.ensure_future(self.end())

    async def end(self) -> None:
        """Let the port close after the grace."""
        await asyncio.sleep(self.grace)
        self.server.should_exit = True


def handle(act: Callable[[int], None]) -> None:
    """Call act, in the event loop, for each signal that asks this process to end."""
    loop = asyncio.get_running_loop()
    for number in interrupts.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, act, number)


def in_thread(work: Callable[[], Made]) -> "asyncio.Future[Made]":
    """What work gives, from a thread that does not hold up the end of the process."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Made] = loop.create_future()

    def settle(act: Callable[[Any], None], value: Any) -> None:
        if not found.done():
            act(value)

    def run() -> None:
        act: Callable[[Any], None] = found.set_result
        try:
            value: Any = work()
        except BaseException as error:
            act, value = found.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, act, value)

    threading.Thread(target=run, name="jaxbert-load", daemon=True).start()
    return found


def serve(life: Life) -> int:
    """Run a server to its end in a new event loop; the exit status, 0.

    Ended while the model is loaded, the process goes at once: a thread is still at it, and Python
    would take its libraries away under it.
    """
    asyncio.run(life.run())
    if life.app.state.served is None:
        sys.stderr.flush()
        os._exit(0)
    return 0
