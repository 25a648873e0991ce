"""Two trained miniatures that share a trunk, and an in-process server of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from miniature import messages, run_cli, write_messages

from lasttoken.classifier.predict import Predictor
from lasttoken.serving.app import make_app
from lasttoken.serving.engine import Engine, EngineHooks
from lasttoken.serving.guard import Guard
from lasttoken.serving.limits import Limits
from lasttoken.serving.metrics import ServerMetrics
from lasttoken.serving.models import load_models
from lasttoken.serving.server import Server

TOKEN = "a-token-of-more-than-sixteen-signs"
JSON = {"content-type": "application/json"}
TEXTS, _ = messages(40)
LONG_TEXT = "word " * 200  # the classifiers read at most 64 tokens
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, backbone: Path, run_dir: Path) -> list[Path]:
    """The runs spam and other, which share a trunk; the second has the labels a, b and c."""
    folder = tmp_path_factory.mktemp("served")
    texts, labels = messages(60)
    renamed = [{"spam": "c", "ham": "a"}[label] for label in labels[:-3]] + ["b"] * 3
    data = write_messages(folder / "other.csv", texts, renamed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(folder / "cache"))
        answer = run_cli(
            "train", data, "--backbone", backbone, "--out", folder / "other", "--epochs", 3, "--learning-rate", 1e-2
        )
    assert answer.code == 0, answer.err
    return [run_dir, folder / "other"]


@pytest.fixture(scope="session")
def predictor(runs: list[Path]) -> Predictor:
    """The classifier of the first run."""
    return Predictor.load(runs[0], "cpu")


def served(
    paths: list[Path],
    *,
    token: str | None = None,
    max_queue: int = 64,
    log: list[str] | None = None,
    origins: Any = (),
    **limits: Any,
) -> tuple[Guard, Server]:
    """A server of some runs; `log` receives its lines."""
    metrics, bounds = ServerMetrics(), Limits(**limits)
    engine = Engine(load_models(paths, "cpu"), max_queue, 2000, EngineHooks(metrics.on_batch, metrics.queue.set))
    server = Server(engine, bounds, metrics, token is not None)
    lines = [] if log is None else log
    return Guard(make_app(server), bounds, metrics, token, ["testserver"], lines.append, origins), server


@pytest.fixture(scope="session")
def client(runs: list[Path]) -> Iterator[TestClient]:
    """A client of a server of the first run, with small limits."""
    app, _ = served(runs[:1], texts=50, characters=2000, body_bytes=100_000)
    with TestClient(app) as made:
        yield made


@pytest.fixture(scope="session")
def both(runs: list[Path]) -> Iterator[TestClient]:
    """A client of a server of both runs."""
    app, _ = served(runs)
    with TestClient(app) as made:
        yield made
