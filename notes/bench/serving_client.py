"""A client of HTTP for load: kept connections, one process, little else. For serving_peers.py.

It is the same for all servers, and shares the cores with them; so it reads no JSON of an answer.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter


class Connection(asyncio.Protocol):
    """One kept connection: a request at a time, (status, bytes) of its answer."""

    def __init__(self):
        self.got, self.head, self.size, self.answer = bytearray(), 0, 0, None

    @classmethod
    async def to(cls, port):
        """An open connection to a port of this machine."""
        loop = asyncio.get_running_loop()
        transport, own = await loop.create_connection(cls, "127.0.0.1", port)
        own.transport = transport
        return own

    def ask(self, request):
        """The future of the answer."""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.answer

    def data_received(self, data):
        self.got += data
        if not self.head:
            end = self.got.find(b"\r\n\r\n")
            if end < 0:
                return
            self.head = end + 4
            fields = bytes(self.got[:end]).lower().split(b"\r\n")
            self.size = next(int(f[15:]) for f in fields if f.startswith(b"content-length:"))
        if len(self.got) >= self.head + self.size:
            found = int(self.got[9:12]), bytes(self.got[self.head :])
            self.got, self.head = bytearray(), 0
            self.answer.set_result(found)

    def connection_lost(self, error):
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError(f"closed: {error}"))


def post(texts, model):
    """The bytes of a request to /v1/embeddings, vectors as numbers."""
    body = json.dumps({"input": texts, "model": model, "encoding_format": "float"}).encode()
    lines = ("POST /v1/embeddings HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json")
    return "\r\n".join((*lines, f"Content-Length: {len(body)}", "", "")).encode() + body


class Load:
    """The requests of one load: when each was due and when it was answered, and its status."""

    def __init__(self, port, requests):
        self.port, self.requests = port, requests
        self.times, self.seen = [], Counter()

    async def one(self, connection, request, due):
        status, _ = await connection.ask(request)
        self.seen[status] += 1
        self.times.append((due, time.perf_counter()))

    async def closed(self, callers, seconds):
        """So many callers, each of which asks again as soon as it is answered."""
        numbers = itertools.cycle(self.requests)
        end = time.perf_counter() + seconds

        async def caller():
            connection = await Connection.to(self.port)
            while (now := time.perf_counter()) < end:
                await self.one(connection, next(numbers), now)
            connection.transport.close()

        await asyncio.gather(*(caller() for _ in range(callers)))
        return self

    async def open(self, rate, seconds, seed=0):
        """Requests at random times, `rate` a second on average, answered or not.

        A time counts from the moment the request was due. Connections wait for it, a new one is
        opened where all are in use.
        """
        gaps, running = random.Random(seed), []
        idle = [await Connection.to(self.port) for _ in range(64)]

        async def one(request, due):
            connection = idle.pop() if idle else await Connection.to(self.port)
            await self.one(connection, request, due)
            idle.append(connection)

        due = start = time.perf_counter()
        for request in itertools.cycle(self.requests):
            due += gaps.expovariate(rate)
            if due > start + seconds:
                break
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            running.append(asyncio.ensure_future(one(request, due)))
        await asyncio.gather(*running)
        for connection in idle:
            connection.transport.close()
        return self

    def figures(self):
        """The rate of answers, milliseconds of each, and how many were not 200."""
        begun = min(due for due, _ in self.times)
        seconds = max(end for _, end in self.times) - begun
        waits = sorted(round(1e3 * (end - due), 1) for due, end in self.times)
        refused = sum(self.seen.values()) - self.seen[200]
        return {"rate": len(waits) / seconds, "ms": waits, "refused": refused}
