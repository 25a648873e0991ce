"""Counts and durations for Prometheus; they contain no text and no predicted label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ServerMetrics:
    """The counters of one server: requests, durations, queue, batches, tokens."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lasttoken_requests", "Requests by path and status.", ("path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lasttoken_request_seconds",
            "Duration of a request in seconds.",
            ("path",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.queue = Gauge("lasttoken_queue_texts", "Texts that wait in the queue.", registry=self.registry)
        self.batch = Histogram(
            "lasttoken_batch_texts", "Texts computed in one batch.", buckets=SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "lasttoken_batch_seconds", "Duration of a batch in seconds.", buckets=SECONDS, registry=self.registry
        )
        self.texts = Counter("lasttoken_texts", "Texts classified.", registry=self.registry)
        self.tokens = Counter("lasttoken_tokens", "Tokens computed by trunks.", registry=self.registry)

    def on_batch(self, n_texts: int, n_tokens: int, seconds: float) -> None:
        """Count a batch."""
        self.batch.observe(n_texts)
        self.batch_seconds.observe(seconds)
        self.texts.inc(n_texts)
        self.tokens.inc(n_tokens)

    def on_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is the route's pattern, never the address that a client sent."""
        self.requests.labels(path, str(status)).inc()
        self.seconds.labels(path).observe(seconds)

    def expose(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self.registry)
