"""Two trained miniatures on one trunk, and a server of them in this process, reached by a real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from miniature import blank_curves, messages, random_gpt, run_cli, write_backbone, write_messages

from lasttoken.classifier.predict import Predictor
from lasttoken.serving.app import make_app
from lasttoken.serving.engine import Engine, EngineHooks
from lasttoken.serving.guard import Guard
from lasttoken.serving.limits import Limits
from lasttoken.serving.metrics import ServerMetrics
from lasttoken.serving.models import load_models
from lasttoken.serving.server import Server

TOKEN = "a-token-of-more-than-sixteen-signs"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """spam and other: two heads of one backbone; the second has other labels."""
    folder = tmp_path_factory.mktemp("served")
    backbone = write_backbone(folder / "backbone", random_gpt(n_positions=64))
    texts, labels = messages(60)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(folder / "cache"))
        patch.setattr("lasttoken.runs.write.draw_curves", blank_curves)
        for name, renamed in (
            ("spam", labels),
            ("other", [{"spam": "c", "ham": "a"}[one] for one in labels[:-3]] + ["b"] * 3),
        ):
            data = write_messages(folder / f"{name}.csv", texts, renamed)
            answer = run_cli(
                "train", data, "--backbone", backbone, "--out", folder / name, "--epochs", 3, "--learning-rate", 1e-2
            )
            assert answer.code == 0, answer.err
            made.append(folder / name)
    return made


@pytest.fixture(scope="session")
def predictor(runs: list[Path]) -> Predictor:
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
    """A server of some runs."""
    metrics, found = ServerMetrics(), Limits(**limits)
    engine = Engine(load_models(paths, "cpu"), max_queue, 2000, EngineHooks(metrics.on_batch, metrics.queue.set))
    server = Server(engine, found, metrics, token is not None)
    lines = [] if log is None else log
    return Guard(make_app(server), found, metrics, token, ["testserver"], lines.append, origins), server


@pytest.fixture(scope="session")
def client(runs: list[Path]) -> Iterator[TestClient]:
    """A client of a server of the first run."""
    app, _ = served(runs[:1], texts=50, characters=2000, body_bytes=100_000)
    with TestClient(app) as found:
        yield found


@pytest.fixture(scope="session")
def both(runs: list[Path]) -> Iterator[TestClient]:
    """A client of a server of both runs."""
    app, _ = served(runs)
    with TestClient(app) as found:
        yield found
