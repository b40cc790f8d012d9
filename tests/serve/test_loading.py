"""From options to queues: what is compiled, and what has threads of its own."""

import asyncio

import pytest

from jaxbert.inference.apart import Apart
from jaxbert.serve import loading, routes
from jaxbert.serve.metrics import Metrics
from jaxbert.serve.options import parsed
from jaxbert.serve.state import State

LENGTH = 1500  # more than LONG


class Recorded:
    """The interface of both queues that loading needs."""

    def __init__(self, model, *most, max_wait, timeout, long, listener, apart):
        self.long, self.warm, self.apart = long, None, apart

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
    for queue in queues("--warm", str(warm), "--long-texts", "here"):
        assert (queue.long, queue.warm) == (long, min(warm, LENGTH))


def queues(*words):
    """The two queues of a command with these options."""
    options = parsed([*words, "--rerank", "ranker"])
    state = State("name", Metrics(routes.PATHS))
    made = asyncio.run(loading.served(options, {"name": "m"}, state, loading.rules(options)))
    return made.queue, made.ranker


def test_long_texts_have_a_process_where_there_are_any(monkeypatch):
    monkeypatch.setattr(loading, "opened", lambda *_: (Model(), Model()))
    monkeypatch.setattr(loading, "BoundedEmbedder", Recorded)
    monkeypatch.setattr(loading, "BoundedCrossEncoder", Recorded)
    for warm in (512, 1200):  # what is compiled in this process is computed by it
        found = queues("--warm", str(warm))
        assert [(queue.apart, queue.long) for queue in found] == [(Apart(), warm)] * 2
    assert [queue.apart for queue in queues("--long-texts", "here")] == [None, None]
    assert [queue.apart for queue in queues("--warm", "9999")] == [None, None]
