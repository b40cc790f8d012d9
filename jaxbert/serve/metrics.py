"""What the server counts, as Prometheus reads it; every series is there from the start.

A registry of its own, so that two servers in one process count apart. Labels come from fixed lists:
a path that is none of ours counts as "other", so that no client can make series.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from jaxbert.inference.queue import Listener, Load

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LENGTHS = ("16", "32", "64", "128", "256", "512", "1024", "2048", "4096", "8192", "more")
STATUSES = "200 400 401 404 405 408 413 429 431 499 500 503".split()
REASONS = ("full", "closed", "timeout", "loading", "draining")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Listener):
    """The counters of one server; its methods may be called from any thread."""

    def __init__(self, paths: Iterable[str]) -> None:
        """paths are the labels that requests can have."""
        self.registry = CollectorRegistry()
        self.paths = {*paths, "other"}
        self._count_requests()
        self._count_work()

    def _count_requests(self) -> None:
        """Make the series of requests and of their texts."""
        registry = self.registry
        path_and_status = ["path", "status"]
        self.requests = Counter(
            "jaxbert_requests", "Requests answered", path_and_status, registry=registry
        )
        self.request_seconds = Histogram(
            "jaxbert_request_seconds",
            "From the end of the head to the end of the answer",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        for path in self.paths:
            self.request_seconds.labels(path)
            for status in STATUSES:
                self.requests.labels(path, status)
        self.truncated = Counter(
            "jaxbert_truncated_texts", "Texts of which a part was cut", registry=registry
        )
        self.refusals = Counter(
            "jaxbert_refused", "Requests refused without work", ["reason"], registry=registry
        )
        for reason in REASONS:
            self.refusals.labels(reason)
        self.ready = Gauge("jaxbert_ready", "1 while requests are taken", registry=registry)
        self.info = Info("jaxbert", "What is served", registry=registry)

    def _count_work(self) -> None:
        """Make the series of the queue and of batches."""
        registry = self.registry
        self.texts = Counter("jaxbert_texts", "Texts computed", registry=registry)
        self.tokens = Counter("jaxbert_tokens", "Their tokens", registry=registry)
        self.slots = Counter("jaxbert_slots", "Tokens that batches had room for", registry=registry)
        self.batch_seconds = Histogram(
            "jaxbert_batch_seconds",
            "A batch of rows of up to so many tokens",
            ["length"],
            buckets=SECONDS,
            registry=registry,
        )
        for length in LENGTHS:
            self.batch_seconds.labels(length)
        self.batch_texts = Histogram(
            "jaxbert_batch_texts", "Texts of a batch", buckets=SIZES, registry=registry
        )
        self.wait_seconds = Histogram(
            "jaxbert_wait_seconds",
            "From a text's arrival to the beginning of its batch",
            buckets=SECONDS,
            registry=registry,
        )
        self.cancelled_texts = Counter(
            "jaxbert_cancelled_texts", "Texts dropped before they ran", registry=registry
        )
        self.queue_texts = Gauge("jaxbert_queue_texts", "Texts that wait", registry=registry)
        self.queue_tokens = Gauge("jaxbert_queue_tokens", "Their tokens", registry=registry)
        self.queue_seconds = Gauge(
            "jaxbert_queue_seconds", "Their work at the measured speed", registry=registry
        )
        self.compilations = Gauge(
            "jaxbert_compilations", "Shapes compiled or read from the cache", registry=registry
        )

    def watch(self, load: Callable[[], Load], compilations: Callable[[], int]) -> None:
        """Read the state of the queue from these functions whenever the metrics are asked for."""
        self.queue_texts.set_function(lambda: load().texts)
        self.queue_tokens.set_function(lambda: load().tokens)
        self.queue_seconds.set_function(lambda: load().seconds)
        self.compilations.set_function(compilations)

    def text(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self.registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        path = path if path in self.paths else "other"
        self.requests.labels(path, str(status)).inc()
        self.request_seconds.labels(path).observe(seconds)

    # What a queue calls, from its threads.

    def batch(self, length: int, texts: int, tokens: int, slots: int, seconds: float) -> None:
        """Count a batch whose rows have `length` tokens each."""
        name = next((one for one in LENGTHS[:-1] if length <= int(one)), LENGTHS[-1])
        self.batch_seconds.labels(name).observe(seconds)
        self.batch_texts.observe(texts)
        self.texts.inc(texts)
        self.tokens.inc(tokens)
        self.slots.inc(slots)

    def waited(self, seconds: float) -> None:
        """Count the seconds that a text has waited."""
        self.wait_seconds.observe(seconds)

    def cancelled(self, texts: int) -> None:
        """Count texts that were dropped."""
        self.cancelled_texts.inc(texts)

    def refused(self, reason: str) -> None:
        """Count a request that was refused: full, closed, timeout, loading or draining."""
        self.refusals.labels(reason if reason in REASONS else "closed").inc()
