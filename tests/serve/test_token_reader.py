"""TEI's /tokenize under load: in a thread of its own, and not without bounds."""

import asyncio
import threading

from jaxbert.serve import token_reader
from jaxbert.serve.served import Rules
from tests.serve.fakes import app, ask, call


def test_too_much_to_tokenise_is_refused(embedder):
    application = app(embedder, rules=Rules(most_tokens=20))
    for inputs, said in (
        ("a" * 81, b"has 81 characters, and the most is 80; send several"),
        (["a b c d"] * 4, b"has 24 or more tokens, and the most is 20; send several"),
    ):
        got = ask(application, "POST", "/tokenize", {"inputs": inputs})
        assert (got.status, said in got.body) == (400, True), got.body
    taken = ask(application, "POST", "/tokenize", {"inputs": ["a b c d"] * 3})
    assert [len(row) for row in taken.json] == [6, 6, 6]


def test_what_waits_to_be_tokenised_is_bounded_and_holds_up_nobody(embedder, monkeypatch):
    """While the thread is stuck, the tokenizer of all others is free and the loop goes on."""
    stuck, threads = threading.Event(), set()

    def described(tokenizer, text, tokens):
        threads.add(threading.current_thread())
        assert stuck.wait(30)
        assert tokenizer is not embedder.tokenizer
        return []

    monkeypatch.setattr(token_reader, "described", described)
    application = app(embedder, rules=Rules(most_tokens=20))

    async def requests():
        body = {"inputs": "a" * 70}
        asked = [call(application, "POST", "/tokenize", body) for _ in range(4)]
        waiting = [asyncio.ensure_future(one) for one in asked]
        await asyncio.sleep(0.1)
        refused = await call(application, "POST", "/tokenize", body)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert embedder.tokenizer.lock.acquire(timeout=5)
        embedder.tokenizer.lock.release()
        stuck.set()
        assert [got.status for got in await asyncio.gather(*waiting)] == [200] * 4
        assert (await call(application, "POST", "/tokenize", body)).status == 200

    asyncio.run(requests())
    assert len(threads) == 1
    assert threading.main_thread() not in threads
