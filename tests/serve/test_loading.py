"""From options to queues: what is compiled, and what has threads of its own."""

import asyncio

import pytest

from jaxbert.serve import loading, routes
from jaxbert.serve.metrics import Metrics
from jaxbert.serve.options import parsed
from jaxbert.serve.state import State

LENGTH = 1500  # more than LONG


class Recorded:
    """The interface of both queues that loading needs."""

    def __init__(self, model, *most, max_wait, timeout, long, listener):
        self.long, self.warm = long, None

    async def warmup(self, length, states=False):
        self.warm = length


class Model:
    """A model of 1500 tokens."""

    max_seq_length = LENGTH


@pytest.mark.parametrize(("warm", "long"), [(512, 512), (9999, 1024), (7, 7)])
def test_what_is_not_compiled_holds_up_nothing(monkeypatch, warm, long):
    """A text beyond --warm compiles, so that it belongs into the long lane."""
    monkeypatch.setattr(loading, "opened", lambda *_: (Model(), Model()))
    monkeypatch.setattr(loading, "BoundedEmbedder", Recorded)
    monkeypatch.setattr(loading, "BoundedCrossEncoder", Recorded)
    options = parsed(["--warm", str(warm), "--rerank", "ranker"])
    state = State("name", Metrics(routes.PATHS))
    made = asyncio.run(loading.served(options, {"name": "m"}, state, loading.rules(options)))
    for queue in (made.queue, made.ranker):
        assert (queue.long, queue.warm) == (long, min(warm, LENGTH))
