"""The server about itself: /info, /health, /metrics."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from serving.conftest import served


def test_info_describes_labels_metrics_and_limits(client: TestClient) -> None:
    info = client.get("/info").json()
    model = info["models"]["spam"]
    assert model["labels"] == ["ham", "spam"]
    assert model["metrics"]["test"]["accuracy_ci95"]
    assert "train" not in model["metrics"]
    assert model["text_columns"] == ["text"]
    assert model["verdict"]
    assert info["limits"]["texts"] == 50
    assert info["token_needed"] is False


def test_info_says_which_models_share_a_trunk(both: TestClient) -> None:
    assert both.get("/info").json()["trunks"] == [["spam", "other"]]


def test_health_is_503_until_the_models_are_warm(runs: list[Path]) -> None:
    app, server = served(runs[:1])
    client = TestClient(app)
    for path in ("/health", "/v2/health/ready"):
        assert client.get(path).status_code == 503
    server.start()
    try:
        for path in ("/health", "/v2/health/ready"):
            assert client.get(path).json() == {"ready": True}
    finally:
        server.close()


def test_counts_for_prometheus_hold_no_text(runs: list[Path]) -> None:
    app, _ = served(runs[:1])
    with TestClient(app) as client:
        client.post("/classify", json={"texts": ["hush hush", "quiet"]})
        client.post("/models/hush-hush", json={"inputs": "a"})
        exposed = client.get("/metrics").text
    assert 'lasttoken_requests_total{path="/classify",status="200"} 1.0' in exposed
    assert 'lasttoken_requests_total{path="/models/{name}",status="404"} 1.0' in exposed
    assert "lasttoken_texts_total 2.0" in exposed
    assert "hush" not in exposed
