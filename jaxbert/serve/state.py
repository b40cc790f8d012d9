"""What a server is doing: loading, ready or draining; what GET paths say about it."""

import os
import time
from typing import Any

from jaxbert import __version__
from jaxbert.errors import QueueClosedError
from jaxbert.inference.queue import Load
from jaxbert.serve.metrics import Metrics
from jaxbert.serve.refusals import AGAIN
from jaxbert.serve.served import Served
from jaxbert.serve.wire import openai
from jaxbert.serve.wire.errors import RequestError

EMBED_ENDPOINTS, RANK_ENDPOINTS = ["embed"], ["rerank"]


def dead() -> RequestError:
    """The refusal of a server of which a thread that computes has died."""
    return RequestError(
        "a thread that computes has died; start the server again", status=500, code="failed"
    )


class State:
    """The phase of a server and, once they are loaded, its models; changed by the event loop."""

    def __init__(self, name: str, metrics: Metrics) -> None:
        """name is the model's, as clients see it before it is loaded too."""
        self.name, self.metrics = name, metrics
        self.served: Served | None = None
        self.draining = False
        self.created = int(time.time())

    def serve(self, served: Served) -> None:
        """Take requests from now on: the models are loaded and their programs compiled."""
        self.served = served
        self.metrics.watch(self.load, lambda: served.compilations)
        self.metrics.info.info({"model": self.name, "version": __version__, **served.facts})
        self.metrics.ready.set(not self.draining)

    def drain(self) -> None:
        """Say that the server will end; what was accepted is still answered."""
        self.draining = True
        self.metrics.ready.set(0)

    @property
    def ready(self) -> bool:
        """Whether a new request should be sent here."""
        return self.served is not None and not self.draining and self.served.healthy

    @property
    def phase(self) -> str:
        """The phase as one word for people."""
        if self.draining:
            return "draining"
        if self.served is None:
            return "loading"
        return "ready" if self.served.healthy else "failed"

    def models(self) -> Served:
        """The models. Raises RequestError while they are loaded."""
        if self.served is None:
            self.metrics.refused("loading")
            raise self.unready("the model is being loaded and compiled; try again later")
        return self.served

    def unready(self, message: str) -> RequestError:
        """A refusal that says when to come again."""
        return RequestError(message, status=503, code=self.phase, retry_after=AGAIN)

    def load(self) -> Load:
        """What waits in all queues."""
        if self.served is None:
            return Load(0, 0, 0.0)
        queues = (self.served.queue, self.served.ranker)
        loads = [queue.load() for queue in queues if queue is not None]
        return Load(
            sum(one.texts for one in loads),
            sum(one.tokens for one in loads),
            sum(one.seconds for one in loads),
        )

    def health(self) -> dict[str, Any]:
        """GET /health. Raises RequestError where a thread that computes has died."""
        if self.served is not None and not self.served.healthy:
            raise dead()
        return {"status": "ok"}

    def meant(self, error: Exception) -> Exception:
        """The error, which is another one where the queue takes nothing because it has failed.

        Nobody should come again for that.
        """
        return dead() if isinstance(error, QueueClosedError) and self.phase == "failed" else error

    def readiness(self) -> dict[str, Any]:
        """GET /ready, whatever the phase is: what the page shows."""
        load, sample = self.load(), self.metrics.registry.get_sample_value
        return {
            "ready": self.ready,
            "phase": self.phase,
            "model": self.name,
            "queue": {"texts": load.texts, "tokens": load.tokens, "seconds": load.seconds},
            "tokens": int(sample("jaxbert_tokens_total") or 0),
            "uptime": round(time.time() - self.created, 1),
            "ranks_by": self.served.ranks_by if self.served else None,
        }

    def info(self) -> dict[str, Any]:
        """GET /info: TEI's fields, and ours under "jaxbert". Raises RequestError before."""
        served = self.models()
        embedder, rules = served.embedder, served.rules
        return {
            "model_id": served.name,
            "model_sha": served.facts.get("revision") or None,
            "model_dtype": served.facts.get("dtype", "float32"),
            "model_type": {"embedding": {"pooling": "+".join(embedder.stack.pooling.modes)}},
            "max_concurrent_requests": rules.most_texts,
            "max_input_length": embedder.max_seq_length,
            "max_batch_tokens": embedder.max_seq_length,
            "max_batch_requests": None,
            "max_client_batch_size": rules.most_texts,
            "auto_truncate": rules.on_long == "truncate",
            "tokenization_workers": os.cpu_count() or 1,
            "version": __version__,
            "sha": None,
            "docker_label": None,
            "prompts": dict(embedder.prompts),
            "jaxbert": {
                "width": embedder.get_embedding_dimension(),
                "rerank": served.ranks_by,
                "reranker": served.ranker_name,
                "accepts_ids": rules.accept_ids,
                **served.facts,
            },
        }

    def listed(self) -> dict[str, Any]:
        """GET /v1/models: the model of vectors, and the reranker if there is one."""
        return openai.models(self.names(), self.created)

    def one(self, name: str) -> dict[str, Any]:
        """GET /v1/models/NAME. Raises RequestError for a model that is not here."""
        if name not in self.names():
            raise RequestError(
                f"the model {name!r} is not served here; GET /v1/models lists those that are",
                status=404,
                code="model_not_found",
                param="model",
            )
        return openai.model(name, self.created)

    def names(self) -> dict[str, dict[str, Any]]:
        """The models with what Cohere's list says of each. Raises RequestError before."""
        served = self.models()
        endpoints = EMBED_ENDPOINTS + (RANK_ENDPOINTS if served.ranker is None else [])
        length = served.embedder.max_seq_length
        found = {served.name: {"endpoints": endpoints, "context_length": length}}
        if served.ranker is not None:
            length = served.ranker.cross_encoder.max_seq_length
            own = {"endpoints": RANK_ENDPOINTS, "context_length": length}
            found[str(served.ranker_name)] = own
        return found
