"""Counts and durations for Prometheus; they contain no text and no predicted label."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client reads the folder of mapped counters
LIVE_GAUGES = "gauge_livesum_{}.db"  # prometheus_client's file of a worker's gauges


def count_for_all_workers(folder: Path, worker_id: int) -> None:
    """Keep the counters of this process from now on in mapped files of `folder`, which all workers share.

    `worker_id`: of no other living worker. Whoever gets it next goes on counting in the same files, so that counters
    never go back and files do not pile up.
    """
    os.environ[FOLDER_VARIABLE] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: worker_id)  # type: ignore[no-untyped-call]


def forget_gauges(folder: Path, worker_id: int) -> None:
    """Remove what a worker that has ended reported of its queue; its counters stay."""
    (folder / LIVE_GAUGES.format(worker_id)).unlink(missing_ok=True)


class ServerMetrics:
    """The counters of one server: requests, durations, queue, batches, tokens.

    `folder`: of the counters of all workers, which `expose` adds up; None: this process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
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
        self.queue = Gauge(
            "lasttoken_queue_texts",
            "Texts that wait in the queue.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.batch = Histogram(
            "lasttoken_batch_texts", "Texts computed in one batch.", buckets=SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "lasttoken_batch_seconds", "Duration of a batch in seconds.", buckets=SECONDS, registry=self.registry
        )
        self.texts = Counter("lasttoken_texts", "Texts classified.", registry=self.registry)
        self.tokens = Counter("lasttoken_tokens", "Tokens computed by trunks.", registry=self.registry)
        if folder is not None:
            self._count_worker()

    def _count_worker(self) -> None:
        workers = Gauge(
            "lasttoken_workers",
            "Worker processes that have loaded the models.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        workers.set(1)
        Counter("lasttoken_worker_starts", "Workers started, replacements included.", registry=self.registry).inc()

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
        if self._folder is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)
