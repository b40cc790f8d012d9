"""Clients that are slow, gone, greedy or wrong: each has what it deserves, and no other notices."""

import asyncio
import contextlib
import http.client
import json
import socket
import time

import httpx
import pytest

from tests.models import write_folder
from tests.serve.process import SECONDS, running

pytestmark = pytest.mark.faults

HALF = 200
BODY_SECONDS = 4
HEAD_SECONDS = 10  # protocol.HEAD_SECONDS
HALF_HEAD = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Le"
HALF_BODY = b'POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"inputs"'
WHOLE = b'POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"inputs": "a"}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("served"),
        "jinabert-geglu",
        sentence_bert_config={"max_seq_length": 13},
    )


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, "--warm", 13, "--body-seconds", BODY_SECONDS) as server:
        yield server.ready()


@pytest.fixture
def half(server):
    """Half as many heads and as many bodies that stop in their middle."""
    made = [server.socket(HALF_HEAD if i % 2 else HALF_BODY) for i in range(HALF)]
    yield made
    for one in made:
        one.close()


def seconds(act):
    """How long it takes."""
    begun = time.monotonic()
    act()
    return time.monotonic() - begun


def received(connection):
    """All that comes until the server closes the connection."""
    connection.settimeout(SECONDS)
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def metric(server, name):
    lines = server.ask("/metrics").text.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_half_requests_hold_up_no_other_and_are_closed(server, half):
    begun = time.monotonic()
    for _ in range(20):
        assert server.ask("/embed", {"inputs": "a"}).status_code == 200
    answers = [received(one) for one in half]
    taken = time.monotonic() - begun
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert BODY_SECONDS < taken < HEAD_SECONDS + 10


def test_half_requests_do_not_hold_up_the_end(folder):
    with running(folder, "--warm", 5) as server:
        server.ready()
        made = [server.socket(HALF_HEAD if i % 2 else HALF_BODY) for i in range(HALF)]
        time.sleep(0.5)
        assert seconds(lambda: server.end()) < 8  # where uvicorn alone waits for them for ever
        assert server.process.returncode == 0
        for one in made:
            received(one)
            one.close()


def test_a_head_that_drips_is_not_waited_for_longer(server):
    with server.socket(b"GET /health HTTP/1.1\r\n") as connection:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - begun < HEAD_SECONDS + 10:
                connection.sendall(b"a: b\r\n")
                time.sleep(0.5)
        assert time.monotonic() - begun < HEAD_SECONDS + 5


def test_a_head_without_end_is_refused(server):
    with server.socket(b"GET /health HTTP/1.1\r\n") as connection:
        connection.sendall(b"a: " + b"b" * 66_000)  # no more than is read, or it would be reset
        assert received(connection).startswith(b"HTTP/1.1 431 ")
    assert server.ask("/health").status_code == 200


def test_a_second_request_behind_an_answer_waits_for_its_turn(server):
    with server.socket(WHOLE + WHOLE + WHOLE) as connection:
        connection.settimeout(SECONDS)
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < 3 or not answers.endswith(b"]]"):
            answers += connection.recv(65_536)


def test_a_second_head_is_timed_too(server):
    with server.socket(WHOLE) as connection:
        connection.settimeout(SECONDS)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(HALF_HEAD)
        begun = time.monotonic()
        assert b"HTTP/1.1 408 " in received(connection)
        assert time.monotonic() - begun > HEAD_SECONDS - 1


def test_a_hundred_megabytes_are_refused_and_not_kept(server):
    before, block = server.memory(), b"x" * 2**20
    head = b"POST /embed HTTP/1.1\r\nHost: a\r\n"
    announced = head + b"Content-Length: 100000000\r\n\r\n"
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
    for begin, size in ((announced, b""), (chunked, b"100000\r\n")):
        for _ in range(3):
            with server.socket(begin) as connection:
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        connection.sendall(size + block + b"\r\n" * bool(size))
                assert received(connection).startswith(b"HTTP/1.1 413 ")
    polite = http.client.HTTPConnection(*server.address, timeout=SECONDS)
    polite.request("POST", "/embed", body=b"x" * 100_000_000)  # would raise if it were reset
    assert polite.getresponse().status == 413
    polite.close()
    assert server.memory() - before < 40
    with server.socket(announced) as connection:  # refused before a byte of it has come
        connection.settimeout(2)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


ODD = [
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"null",
    b"[]",
    b"{}",
    b"3",
    b'"a"',
    b'{"inputs": NaN}',
    b'{"inputs": null}',
    b'{"inputs": []}',
    b'{"inputs": [[]]}',
    b'{"inputs": {}}',
    b'{"inputs": true}',
    b'{"inputs": "\xc3\x28"}',
    b'{"inputs": "\\ud800"}',
    b'{"inputs": [2, 3]}',
    b'{"inputs": "a", "dimensions": true}',
    b'{"inputs": "a", "dimensions": 1e400}',
    b'{"inputs": "a", "dimensions": 99999999999999999999999}',
    b'{"inputs": "a", "truncate": "yes"}',
    b'{"inputs": "a", "unknown": 1}',
    b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    json.dumps({"inputs": ["a"] * 3000}).encode(),
]


@pytest.mark.parametrize("body", ODD, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v2/embed", "/rerank"])
def test_odd_bodies_are_one_sentence(server, path, body):
    named = {"/v1/embeddings": b"input", "/v2/embed": b"texts", "/rerank": b"query"}
    own = body.replace(b"inputs", named.get(path, b"inputs"))
    got = httpx.post(server.url + path, content=own, timeout=SECONDS)
    assert got.status_code == 400
    assert got.json()


@pytest.mark.parametrize("text", ["", "a\u0000b", "\U0001f600", " " * 100_000, "a" * 1_000_000])
def test_odd_texts_are_embedded(server, text):
    assert server.ask("/embed", {"inputs": text}).status_code == 200


def test_texts_whose_clients_have_gone_do_not_run(server):
    texts = ["a b c d e f g h i"] * 2000
    before = metric(server, "jaxbert_texts_total")
    raw = json.dumps({"inputs": texts}).encode()
    head = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(raw)
    gone = [server.socket(head + raw) for _ in range(20)]
    time.sleep(0.05)
    for one in gone:
        one.close()
    assert server.ask("/embed", {"inputs": "a"}).status_code == 200
    time.sleep(2)
    ran = metric(server, "jaxbert_texts_total") - before
    assert ran < 20_000, "at least half of the 40,000 texts were given up"
    assert metric(server, "jaxbert_queue_texts") == 0
    assert metric(server, 'jaxbert_requests_total{path="/embed",status="499"}') >= 10


def test_more_than_can_be_done_is_refused_with_a_time_to_come_again(folder):
    async def one(http, url):
        got = await http.post(f"{url}/v1/embeddings", json={"input": ["a b c d e f"] * 500})
        if got.status_code == 429:
            assert int(got.headers["retry-after"]) >= 1
            assert int(got.headers["retry-after-ms"]) >= 1
            assert got.json()["error"]["code"] == "queue_full"
        return got.status_code

    async def all_at_once(url):
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=SECONDS, limits=limits) as http:
            return await asyncio.gather(*(one(http, url) for _ in range(200)))

    with running(folder, "--warm", 13, "--max-wait", 0.2) as server:
        found = asyncio.run(all_at_once(server.ready().url))
        assert set(found) == {200, 429}
        assert server.ask("/embed", {"inputs": "a"}).status_code == 200
        refused = metric(server, 'jaxbert_refused_total{reason="full"}')
        assert refused == found.count(429)


def test_connections_that_are_kept_do_not_hold_up_the_end(folder):
    with running(folder, "--warm", 5) as server, httpx.Client(base_url=server.url) as client:
        server.ready()
        assert client.get("/health").status_code == 200
        idle = [socket.create_connection(server.address) for _ in range(20)]
        assert seconds(lambda: server.end()) < 8
        assert server.process.returncode == 0
        for one in idle:
            one.close()
