"""Large requests: refused by their tokens before they are computed; large answers in pieces."""

import asyncio
import json
import threading

import numpy as np
import pytest

from jaxbert import CrossEncoder
from jaxbert.serve import written
from jaxbert.serve.bounded import BoundedCrossEncoder, BoundedEmbedder
from jaxbert.serve.served import Rules
from jaxbert.serve.wire.errors import RequestError
from tests.models import GOLDEN
from tests.serve.fakes import app, ask

TEXT = "a b c"  # 5 tokens


class Counting:
    """A listener that knows how many texts have been computed."""

    def __init__(self):
        self.texts = 0

    def batch(self, length, texts, tokens, slots, seconds):
        self.texts += texts

    def waited(self, seconds): ...

    def cancelled(self, texts): ...

    def refused(self, reason): ...


async def refused(awaited, said):
    with pytest.raises(RequestError, match=said) as caught:
        await awaited
    assert (caught.value.status, caught.value.code) == (400, "too_many_tokens")


def test_too_many_tokens_are_refused_before_they_are_computed(embedder):
    async def requests():
        listener = Counting()
        async with BoundedEmbedder(embedder, 20, 10, listener=listener) as queue:
            await refused(queue.encode([TEXT] * 5), "has 25 tokens, and the most is 20; send")
            await refused(queue.encode_ids([[2, 5, 6, 3]] * 6), "has 24 tokens, and the most is 20")
            states = "has 15 tokens, and the most is 10 where each token has its vector"
            await refused(queue.encode_tokens([TEXT] * 3), states)
            await refused(queue.encode_chunks(["a b. ", "c d e f g h."]), "the most is 10 where")
            assert listener.texts == 0
            assert len((await queue.encode([TEXT] * 4)).rows) == 4
            assert len((await queue.encode_tokens([TEXT] * 2)).rows) == 2
            assert len((await queue.encode(["a " * 99])).rows) == 1  # cut to 11 tokens

    asyncio.run(requests())


def test_too_many_tokens_of_pairs_are_refused_too():
    async def requests():
        ranker = CrossEncoder.from_pretrained(GOLDEN / "bert-cross-encoder")
        async with BoundedCrossEncoder(ranker, 12) as queue:
            assert len((await queue.rerank("a", ["b", "c"])).rows) == 2
            await refused(queue.rerank("a", ["b", "c", "d"]), "has 15 tokens, and the most is 12")

    asyncio.run(requests())


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        [[]],
        [np.float32([0.5, -1.0]), np.float32([2.0, 3.25])],
        [[np.float32([0.5])] * 3, [], [np.float32([1.5])] * 2],
        {"data": [{"index": i, "embedding": np.ones(3, np.float32)} for i in range(3)], "a": "b"},
        {"embeddings": {"float": [np.ones(2, np.float32)], "base64": ["é\n"] * 2500}, "texts": []},
        [[{"id": i, "text": '"', "start": None} for i in range(2001)], []],
        list(range(3000)),
        "a",
        None,
    ],
)
def test_pieces_are_the_json_and_none_is_large(content):
    found = list(written.pieces(content))
    assert b"".join(found) == written.as_json(content)
    assert max(map(len, found)) < 60_000


def test_large_answers_are_written_in_a_thread(embedder, monkeypatch):
    threads = []
    whole = written.pieces

    def pieces(content):
        threads.append(threading.current_thread())
        return whole(content)

    monkeypatch.setattr(written, "pieces", pieces)
    application = app(embedder, rules=Rules(most_tokens=20_000))
    got = ask(application, "POST", "/embed_all", {"inputs": ["a b c d e f g"] * 500})
    assert np.shape(json.loads(got.body)) == (500, 9, 15)
    assert threads
    assert threading.main_thread() not in threads
    threads.clear()
    assert ask(application, "POST", "/embed_all", {"inputs": ["a"] * 5}).status == 200
    assert not threads
