"""The connections of a server in this process: heads in time, answers that nothing cuts off."""

import asyncio
import contextlib
import socket
import time

import pytest
import uvicorn

from jaxbert.serve.address import opened
from jaxbert.serve.protocol import HEAD_BYTES, Protocol
from jaxbert.serve.server import Life, Server
from tests.serve.fakes import Queue, app

WHOLE = b'POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"inputs": "a"}'
HALF = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Le"
SECONDS = 30


class Hasty(Protocol):
    head_seconds = 0.4
    write_seconds = 0.5


@pytest.fixture
def talk(embedder):
    """Run a conversation with a server whose answers take `delay` seconds; what it gives."""

    def run(conversation, delay=0.0):
        async def served():
            listener = opened("127.0.0.1", 0)
            # Connections take it over; else the system holds whole answers for them.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
            config = uvicorn.Config(
                app(queue=Queue(embedder, delay=delay)),
                http=Hasty,
                lifespan="off",
                log_config=None,
                log_level="critical",
            )
            server = Server(config)
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            with socket.create_connection(listener.getsockname(), SECONDS) as connection:
                said = await asyncio.to_thread(conversation, connection, server)
                server.should_exit = True
                await asyncio.wait_for(serving, SECONDS)
            return said

        return asyncio.run(served())

    return run


# The answer is some 3 MB of states.
TEXTS = ", ".join(['"a b c d e f g h i"'] * 1500).encode()
LARGE = (
    b"POST /embed_all HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (len(TEXTS) + 14)
    + b'{"inputs": [%b]}' % TEXTS
)


def received(connection):
    """All that comes until the server closes the connection."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "answer"), [(b"", b""), (HALF, b"HTTP/1.1 408 "), (b"GET", b"HTTP/1.1 408 ")]
)
def test_a_head_that_does_not_come_is_not_waited_for(talk, sent, answer):
    def conversation(connection, _):
        connection.sendall(sent)
        begun = time.monotonic()
        return received(connection), time.monotonic() - begun

    said, taken = talk(conversation)
    assert said.startswith(answer)
    assert bool(said) is bool(answer)
    assert 0.3 < taken < 5


def test_bytes_that_drip_gain_no_time(talk):
    def conversation(connection, _):
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in HALF * 9:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        return time.monotonic() - begun

    assert talk(conversation) < 5


def test_a_head_without_end_is_refused(talk):
    def conversation(connection, _):
        connection.sendall(b"GET /health HTTP/1.1\r\na: " + b"b" * (HEAD_BYTES + 100))
        return received(connection)

    assert talk(conversation).startswith(b"HTTP/1.1 431 ")


def test_an_answer_is_not_cut_off_by_half_of_the_next_request(talk):
    """The answer takes three times as long as a head may."""

    def conversation(connection, _):
        connection.sendall(WHOLE + HALF)
        return received(connection)

    said = talk(conversation, delay=1.2)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 408 " in said


def test_the_end_waits_for_an_answer_and_not_for_half_a_request(talk, embedder):
    def conversation(connection, server):
        connection.sendall(WHOLE + HALF)
        with socket.create_connection(connection.getpeername()) as half:
            half.sendall(WHOLE[:-3])
            time.sleep(0.2)
            server.should_exit = True
            begun = time.monotonic()
            assert received(half) == b""
            assert time.monotonic() - begun < 5
        return received(connection)

    said = talk(conversation, delay=1.5)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said.lower()


def test_the_rest_of_a_request_may_come_after_the_end_has_begun(talk):
    def conversation(connection, server):
        connection.sendall(WHOLE[:-3])
        time.sleep(0.2)
        server.should_exit = True
        time.sleep(0.3)  # more than the tenth of a second in which uvicorn sees it
        connection.sendall(WHOLE[-3:])
        return received(connection)

    assert talk(conversation).startswith(b"HTTP/1.1 200 ")


def test_half_of_a_next_request_does_not_cut_off_the_answer_before_it(talk):
    """Its head has come, and the end begins while the first one is computed."""

    def conversation(connection, server):
        connection.sendall(WHOLE)
        time.sleep(0.2)
        connection.sendall(WHOLE[:-3])
        time.sleep(0.2)
        server.should_exit = True
        begun = time.monotonic()
        return received(connection), time.monotonic() - begun

    said, taken = talk(conversation, delay=2.5)
    assert said.count(b"HTTP/1.1 ") == said.count(b"HTTP/1.1 200 ") == 1
    assert taken < 15, "nor is it waited for as long as bodies are"


def test_connections_that_wait_at_the_port_are_answered_at_the_end(embedder):
    """The system has accepted them, so clients have sent; the event loop has not seen them."""
    made = []

    class Ending(Server):
        async def main_loop(self):
            for _ in range(13):
                made.append(socket.create_connection(listener.getsockname(), SECONDS))
                made[-1].sendall(WHOLE)

    config = uvicorn.Config(
        app(queue=Queue(embedder)), http=Protocol, lifespan="off", log_config=None
    )
    with opened("127.0.0.1", 0) as listener:
        asyncio.run(Ending(config).serve(sockets=[listener]))
    answers = [received(one) for one in made]
    for one in made:
        one.close()
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 200 "] * 13


def test_requests_of_one_connection_are_answered_in_turn(talk):
    def conversation(connection, server):
        connection.sendall(WHOLE * 3)
        time.sleep(0.3)
        server.should_exit = True
        return received(connection)

    assert talk(conversation, delay=0.3).count(b"HTTP/1.1 200 ") == 3


def narrow(address):
    """A connection that holds little, so that what is not read waits with the server."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(SECONDS)
    made.connect(address)
    return made


@pytest.mark.parametrize("ends", [b"", b"Connection: close\r\n"])
def test_an_answer_that_nobody_reads_does_not_hold_up_the_end(talk, ends):
    def conversation(connection, server):
        unread = narrow(connection.getpeername())
        unread.sendall(LARGE.replace(b"Host", ends + b"Host"))
        time.sleep(0.3)
        assert server.server_state.connections
        server.should_exit = True
        begun = time.monotonic()
        while server.server_state.connections and time.monotonic() - begun < 8:
            time.sleep(0.05)
        unread.close()
        return time.monotonic() - begun

    assert talk(conversation) < 5


def test_an_answer_that_is_read_slowly_is_read_to_its_end(talk):
    """It takes several times as long as a client may read nothing."""

    def conversation(connection, _):
        with narrow(connection.getpeername()) as slow:
            slow.sendall(LARGE.replace(b"Host", b"Connection: close\r\nHost"))
            said, begun = slow.recv(65_536), time.monotonic()
            while time.monotonic() - begun < 2:
                said += slow.recv(65_536)
                time.sleep(0.02)
            return len(said) < 1_000_000, said + received(slow)

    slowly, said = talk(conversation)
    head, body = said.split(b"\r\n\r\n", 1)
    assert slowly
    assert b"content-length: %d" % len(body) in head


def test_a_request_without_end_is_given_up_at_last(embedder, monkeypatch):
    monkeypatch.setattr("jaxbert.serve.server.LAST_SECONDS", 1)

    async def served():
        listener = opened("127.0.0.1", 0)
        life = Life(app(queue=Queue(embedder, delay=600.0)), None, listener, longest=0.2)
        serving = asyncio.ensure_future(life.server.serve(sockets=[listener]))
        with socket.create_connection(listener.getsockname(), SECONDS) as connection:
            connection.sendall(WHOLE)
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            life.server.should_exit = True
            await asyncio.wait_for(serving, SECONDS)
            taken = time.monotonic() - begun
            return taken, await asyncio.to_thread(received, connection)

    taken, said = asyncio.run(served())
    assert b"HTTP/1.1 200 " not in said
    assert 1.5 < taken < 8  # math.ceil(0.2) + 1


def test_no_part_of_an_answer_waits_for_the_client_to_confirm_the_one_before():
    """uvicorn writes head and body apart: the body would come 40 ms later."""
    options = []

    class Seen(asyncio.Protocol):
        def connection_made(self, transport):
            own = transport.get_extra_info("socket")
            options.append(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def accepted():
        listener = opened("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Seen, sock=listener)
        with socket.create_connection(listener.getsockname(), SECONDS):
            while not options:
                await asyncio.sleep(0.01)
        server.close()

    asyncio.run(accepted())
    assert options == [1]
