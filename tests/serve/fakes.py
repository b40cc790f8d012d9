"""A server without a socket and without arithmetic: queues whose vectors are draws by the text."""

import asyncio
import json
import time
import zlib
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from jaxbert.embedder import Embedder
from jaxbert.errors import InputError
from jaxbert.inference.queue import Answer, Load
from jaxbert.serve.app import App
from jaxbert.serve.metrics import Metrics
from jaxbert.serve.routes import PATHS
from jaxbert.serve.served import Rules, Served
from jaxbert.serve.state import State
from tests.models import write_folder

WIDTH, LONGEST = 15, 11


def embedder(folder, **settings):
    """A model that is opened for its settings: 15 features, 11 tokens, prompts "query", "topic"."""
    prompts = {"prompts": {"query": "q ", "document": "d ", "topic": "t "}} | settings
    write_folder(
        folder,
        "jinabert-geglu",
        config_sentence_transformers=prompts,
        sentence_bert_config={"max_seq_length": LONGEST},
    )
    return Embedder.from_pretrained(folder)


def vector(text):
    """What the fake computes for a text with its prompt."""
    return np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH).astype(np.float32)


class Queue:
    """The interface of AsyncEmbedder; a word is a token."""

    def __init__(self, embedder, delay=0.0, error=None):
        self.embedder, self.delay, self.error = embedder, delay, error
        self.calls, self.left, self.healthy, self.waits = [], 0, True, Load(0, 0, 0.0)
        self.compilations = 0

    def load(self):
        return self.waits

    async def answer(self, texts, make, **asked):
        self.calls.append((list(texts), asked))
        self.left += 1
        await asyncio.sleep(self.delay)
        self.left -= 1
        if self.error is not None:
            raise self.error
        prefix = self.embedder.prompt(asked.get("prompt_name"), asked.get("prompt"))
        most = asked.get("max_length") or LONGEST
        uncut = [len(f"{prefix}{text}".split()) + 2 for text in texts]
        for i, tokens in enumerate(uncut):
            if tokens > most and asked.get("on_long") == "error":
                raise InputError(f"text {i} has {tokens} tokens, and the maximum is {most}; cut it")
        tokens = np.minimum(uncut, most).astype(np.int32)
        return Answer(make(prefix, tokens), tokens, np.array(uncut, np.int32))

    async def encode(self, texts, **asked):
        make = lambda prefix, _: np.stack([vector(prefix + text) for text in texts])  # noqa: E731
        return await self.answer(texts, make, **asked)

    async def encode_tokens(self, texts, **asked):
        def states(prefix, tokens):
            rows = zip(texts, tokens, strict=True)
            return [np.tile(vector(prefix + text), (count, 1)) for text, count in rows]

        return await self.answer(texts, states, **asked)

    async def encode_chunks(self, texts, **asked):
        return await self.encode(texts, **asked, chunks=True)

    async def encode_ids(self, ids):
        return await self.encode([" ".join(map(str, row)) for row in ids], ids=True)


class Ranker(Queue):
    """The interface of AsyncCrossEncoder: the score is the number of letters."""

    def __init__(self, **more):
        super().__init__(None, **more)
        self.cross_encoder = SimpleNamespace(max_seq_length=LONGEST)

    async def rerank(self, query, documents, **asked):
        self.calls.append((query, list(documents), asked))
        uncut = np.array([len(f"{query} {text}".split()) + 3 for text in documents], np.int32)
        if asked["on_long"] == "error" and (uncut > LONGEST).any():
            i = int(np.argmax(uncut > LONGEST))
            raise InputError(f"text {i} has {uncut[i]} tokens, and the maximum is {LONGEST}; cut")
        scores = np.array([len(text) for text in documents], np.float32)
        return Answer(scores, np.minimum(uncut, LONGEST), uncut)


def app(embedder=None, *, ranker=None, queue=None, rules=None, ready=True, **more):
    """An application; without ready it is loading still."""
    state = State("model/name", Metrics(PATHS))
    queue = Queue(embedder) if queue is None else queue
    if ready:
        name = None if ranker is None else "ranker/name"
        facts = {"revision": "abc", "dtype": "float32", "device": "cpu"}
        state.serve(Served("model/name", queue, name, ranker, rules or Rules(), facts))
    return App(state, **more)


@dataclass
class Got:
    """An answer as a client has it."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


async def call(app, method, path, body=b"", headers=(), parts=None, leave=None):
    """One request; `leave` is after how many seconds the client goes away, parts are of a body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = [(b"content-length", b"%d" % len(raw))] if raw and parts is None else []
    given += [(name.encode(), value.encode()) for name, value in dict(headers).items()]
    scope = {"type": "http", "method": method, "path": path, "headers": given}
    waiting, sent, begun = list(parts or [raw]), [], time.monotonic()

    async def receive():
        if waiting:
            part = waiting.pop(0)
            if isinstance(part, float):
                await asyncio.sleep(part)
                part = waiting.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(waiting)}
        rest = 3600 if leave is None else leave - (time.monotonic() - begun)
        await asyncio.sleep(max(0, rest))
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], head, b"".join(one["body"] for one in sent[1:]))


def ask(app, method, path, body=b"", headers=(), **more):
    """The answer to one request, in an event loop of its own."""
    return asyncio.run(call(app, method, path, body, headers, **more))
