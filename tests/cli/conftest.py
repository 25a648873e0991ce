"""One trained miniature for all tests of the command line, made by the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniature import blank_curves, messages, random_gpt, run_cli, write_backbone, write_messages


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder: three random blocks, 64 positions."""
    return write_backbone(tmp_path_factory.mktemp("backbone"), random_gpt(n_positions=64))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 messages in messages.csv, spam and ham in turn."""
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", *messages(60))


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory, data: Path, backbone: Path) -> Path:
    """A finished run. Read only: copy it before you change it."""
    out = tmp_path_factory.mktemp("runs") / "spam"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(tmp_path_factory.mktemp("run-cache")))
        answer = run_cli("train", data, "--backbone", backbone, "--out", out, "--epochs", 3, "--learning-rate", 1e-2)
    assert answer.code == 0, answer.err
    return out


@pytest.fixture(autouse=True)
def quick_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blank curves for all runs but `run_dir`: drawing them takes four times as long as the rest of a miniature run."""
    monkeypatch.setattr("lasttoken.runs.train.draw_curves", blank_curves)
