"""The command in a process of its own: the order of its life, and a few real answers."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from jaxbert import CrossEncoder, Embedder
from tests.models import GOLDEN, write_folder
from tests.serve.process import ROOT, SECONDS, running
from tests.tolerances import COMPANY, close, norms

TEXTS = ["a b", "", "c d e f g", "é"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(
        tmp_path_factory.mktemp("served"),
        "jinabert-geglu",
        config_sentence_transformers={"prompts": {"query": "q ", "document": "d "}},
        sentence_bert_config={"max_seq_length": 13},
    )


@pytest.fixture(scope="module")
def server(folder):
    options = ("--rerank", GOLDEN / "bert-cross-encoder", "--warm", 13, "--warm-states")
    with running(folder, *options) as server:
        yield server.ready()


def test_vectors_are_those_of_the_library(server, folder):
    embedder = Embedder.from_pretrained(folder)
    found = server.ask("/embed", {"inputs": TEXTS, "normalize": False})
    close(np.array(found.json(), np.float32), embedder.encode(TEXTS), COMPANY, norms)
    body = {"input": TEXTS, "task": "retrieval.query"}
    rows = [row["embedding"] for row in server.ask("/v1/embeddings", body).json()["data"]]
    expected = embedder.encode_query(TEXTS, normalize_embeddings=True)
    close(np.array(rows, np.float32), expected, COMPANY, norms)
    parts = ["a b. ", "c d e f. ", "g"]
    body = {"input": parts, "late_chunking": True, "normalized": False}
    rows = [row["embedding"] for row in server.ask("/v1/embeddings", body).json()["data"]]
    spans = [(0, 5), (5, 14), (14, 15)]
    expected = embedder.encode_chunks("".join(parts), spans)
    close(np.array(rows, np.float32), expected, COMPANY, norms)
    states = server.ask("/embed_all", {"inputs": ["a b"]}).json()
    expected = embedder.encode_tokens("a b").embeddings
    close(np.array(states[0], np.float32), expected, COMPANY, norms)


def test_scores_are_those_of_the_reranker(server):
    ranker = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder")
    documents = ["a", "b c", "d e f"]
    expected = ranker.predict([("a b", text) for text in documents])
    body = {"query": "a b", "documents": documents}
    results = server.ask("/v1/rerank", body).json()["results"]
    found = np.array([row["relevance_score"] for row in results], np.float32)
    assert (np.diff(found) <= 0).all()
    order = [row["index"] for row in results]
    close(found, expected[order], COMPANY)
    body = {"query": "a b", "texts": ["b c", "a " * 2000], "truncate": False}
    refused = server.ask("/rerank", body)
    assert (refused.status_code, "the maximum is" in refused.json()["error"]) == (400, True)
    cut = server.ask("/rerank", body | {"truncate": True})
    assert (cut.status_code, cut.headers["x-jaxbert-truncated"]) == (200, "1")
    assert server.ask("/rerank", body | {"texts": ["b c"]}).status_code == 200


def test_nothing_is_compiled_once_it_is_ready(server):
    def compilations():
        lines = server.ask("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("jaxbert_compil"))

    before = compilations()
    assert before > 0
    for texts in ([TEXTS[0]], TEXTS, TEXTS * 40, ["a " * 40]):
        assert server.ask("/v1/embeddings", {"input": texts}).status_code == 200
    assert compilations() == before


def test_the_description_is_served(server):
    found = server.ask("/openapi.json").json()
    assert found["openapi"] == "3.1.0"
    assert set(found["paths"]) >= {"/v1/embeddings", "/v2/embed", "/rerank", "/health"}


def test_curl(server):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = json.dumps({"input": "a b", "model": "x"})
    command = ["curl", "-sS", "--noproxy", "*", f"{server.url}/v1/embeddings", "-d", body]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    assert np.shape(json.loads(done.stdout)["data"][0]["embedding"]) == (15,), done.stderr


def test_the_page_compares_two_texts(server, tmp_path):
    """Headless, without a display and without anything of the network but the server."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is not installed")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --virtual-time-budget=9000 --dump-dom"
    ).split()
    url = f"{server.url}/?a={quote('a b')}&b={quote('a b c')}"
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={tmp_path}", url],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    rows = server.ask("/embed", {"inputs": ["a b", "a b c"]}).json()
    expected = float(np.dot(*np.array(rows)))
    page = done.stdout
    shown = page.split('id="cosine"', 1)[1].split(">", 1)[1].split("<", 1)[0]
    assert abs(float(shown) - expected) < 1e-5, shown  # six digits are shown
    assert f'<dd id="model">{server.ask("/ready").json()["model"]}</dd>' in page
    assert '<dd id="phase">ready</dd>' in page
    assert "cross-encoder bert-cross-encoder</dd>" in page


def test_healthy_before_ready_and_the_port_before_both(folder):
    with running(folder, "--warm", 13) as server:
        seen = []
        while not seen or seen[-1][1] != 200:
            health, ready = server.ask("/health"), server.ask("/ready")
            seen.append((health.status_code, ready.status_code))
            if ready.status_code == 503:
                assert ready.headers["retry-after"] == "5"
                assert ready.json()["phase"] == "loading"
                early = server.ask("/v1/embeddings", {"input": "a"})
                assert early.status_code in (200, 503)
            time.sleep(0.02)
        assert {health for health, _ in seen} == {200}
        assert seen[0] == (200, 503)
        assert server.ask("/v1/embeddings", {"input": "a"}).status_code == 200
        assert server.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_loads_ends_it_in_order(folder, number):
    with running(folder) as server:
        assert server.ask("/health").status_code == 200
        assert server.end(number) == 0


def test_everything_accepted_is_answered_at_sigterm(folder):
    """Clients that keep asking: each gets an answer or a refused connection, never a lost one."""

    async def client(http, url, outcomes):
        while True:
            try:
                got = await http.post(f"{url}/v1/embeddings", json={"input": TEXTS * 20})
                outcomes.append(got.status_code)
                assert len(got.json()["data"]) == 80
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                outcomes.append(repr(error))
                return

    async def load(server):
        outcomes = []
        limits = httpx.Limits(max_keepalive_connections=0)  # a request, a connection
        async with httpx.AsyncClient(timeout=SECONDS, limits=limits) as http:
            clients = [client(http, server.url, outcomes) for _ in range(16)]
            tasks = [asyncio.ensure_future(one) for one in clients]
            while len(outcomes) < 32:
                await asyncio.sleep(0.01)
            before = len(outcomes)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*tasks)
        return outcomes, before

    with running(folder, "--warm", 13) as server:
        outcomes, before = asyncio.run(load(server.ready()))
        assert set(outcomes) == {200}, outcomes
        assert len(outcomes) > before, "nothing was on its way when the signal came"
        assert server.process.wait(SECONDS) == 0


def test_a_long_text_is_answered_at_sigterm_and_its_process_ends(folder):
    """Its process starts when it comes; the pipe that both share is closed when both are gone."""
    long = "a b c d e f g h i"
    with running(folder, "--warm", 5, "--deterministic") as server:
        server.ready()
        body = b'{"inputs": ["%s"], "normalize": false}' % long.encode()
        head = b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        with server.socket(head + body) as connection:
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            answer = b""
            while got := connection.recv(65_536):
                answer += got
        assert server.end(0) == 0
    (rows,) = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    embedder = Embedder.from_pretrained(folder, deterministic=True)
    np.testing.assert_array_equal(np.array(rows, np.float32), embedder.encode(long))


def test_a_connection_is_kept_for_longer_than_clients_keep_theirs(server):
    """httpx, and openai with it, use one for up to 5 s; at uvicorn's 5 s requests were lost."""
    with server.socket(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n") as connection:
        connection.settimeout(7)
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += connection.recv(65_536)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_the_same_bits_in_any_company(folder):
    """As many clients as share batches, each with a text of its own among others that change."""
    own = ["a b", "c d e f g h i", "", "j"] * 6

    async def client(http, url, i):
        found = set()
        for turn in range(8):
            others = ["k l m n"[: 2 * ((i + turn) % 4) + 1]] * ((i * turn) % 7)
            body = {"input": [*others, own[i]], "encoding_format": "base64"}
            got = await http.post(f"{url}/v1/embeddings", json=body)
            found.add(got.json()["data"][-1]["embedding"])
        return found

    async def load(url):
        async with httpx.AsyncClient(timeout=SECONDS) as http:
            return await asyncio.gather(*(client(http, url, i) for i in range(len(own))))

    with running(folder, "--warm", 13, "--deterministic") as server:
        found = asyncio.run(load(server.ready().url))
    assert {len(bits) for bits in found} == {1}
    assert found[:4] * 6 == found


def test_the_grace_says_that_the_end_is_near(folder):
    with running(folder, "--warm", 5, "--grace-before", 3) as server:
        server.ready()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("answering what was accepted")
        got = server.ask("/ready")
        assert (got.status_code, got.json()["phase"]) == (503, "draining")
        assert server.ask("/embed", {"inputs": "a"}).status_code == 200
        assert server.process.wait(SECONDS) == 0


def test_a_second_signal_ends_it_at_once(folder):
    with running(folder, "--warm", 5, "--grace-before", 600) as server:
        server.ready()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("answering what was accepted")
        assert server.end() == 128 + signal.SIGTERM


def test_keys_of_the_environment(folder):
    with running(folder, "--warm", 5, JAXBERT_API_KEYS="first") as server:
        server.ready()
        assert server.ask("/embed", {"inputs": "a"}).status_code == 401
        headers = {"authorization": "Bearer first"}
        assert server.ask("/embed", {"inputs": "a"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("nowhere/at-all",), "nowhere/at-all"),
        (("{folder}", "--rerank", "{folder}"), "CrossEncoder does not open it"),
        (("{folder}", "--prompt-name", "zebra"), "no prompt named 'zebra'"),
        (("{folder}", "--key-file", "/nowhere"), "the keys in /nowhere cannot be read"),
        (("{folder}", "--host", "203.0.113.1"), "cannot be listened on"),
        (("{folder}", "--port", "70000"), "--port is 70000"),
        (("{folder}", "--max-texts", "0"), "--max-texts is 0"),
        (("{folder}", "--max-wait", "nan"), "--max-wait must be more than 0 seconds"),
        (("{folder}", "--ranges", "/nowhere"), "/nowhere"),
    ],
)
def test_what_cannot_be_served_is_one_sentence_and_status_1(folder, options, said):
    given = [option.format(folder=folder) for option in options]
    port = () if "--port" in options else ("--port", "0")
    done = subprocess.run(
        [sys.executable, "-m", "jaxbert.cli", "serve", *given, *port],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    *before, last = done.stderr.splitlines()
    assert done.returncode == 1, done.stderr
    assert said in last
    assert all(" is open; loading " in line for line in before), done.stderr
