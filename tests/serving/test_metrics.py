"""Counters for Prometheus."""

from __future__ import annotations

from lasttoken.serving.metrics import ServerMetrics


def test_batches_and_requests_are_counted() -> None:
    metrics = ServerMetrics()
    metrics.on_batch(3, 40, 0.02)
    metrics.on_batch(2, 10, 0.2)
    metrics.on_request("/classify", 200, 0.3)
    metrics.queue.set(7)
    lines = metrics.expose().decode().splitlines()
    assert "lasttoken_texts_total 5.0" in lines
    assert "lasttoken_tokens_total 50.0" in lines
    assert "lasttoken_queue_texts 7.0" in lines
    assert "lasttoken_batch_texts_count 2.0" in lines
    assert 'lasttoken_batch_seconds_bucket{le="0.025"} 1.0' in lines
    assert 'lasttoken_requests_total{path="/classify",status="200"} 1.0' in lines


def test_two_servers_of_one_process_count_separately() -> None:
    first, second = ServerMetrics(), ServerMetrics()
    first.on_batch(3, 40, 0.02)
    assert "lasttoken_texts_total 0.0" in second.expose().decode()
