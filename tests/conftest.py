"""Fixtures for all tests: no network but loopback, a cache of its own, and the shared data where it is present."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch starts: miniatures are slower on several threads
os.environ["LASTTOKEN_BACKBONE"] = os.path.join(
    os.path.dirname(__file__), "fixtures", "pocket"
)  # a tenth of the bundled one's work

import json
import shutil
import socket
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniature import blank_figure, messages, random_gpt, run_cli, write_backbone, write_messages
from run_folders import rows_of, write_csv

from lasttoken.core.default_backbone import BUNDLED
from lasttoken.report.curves import write_figure

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes do not name a test: gzip and zip hold the time, and every process must collect tests of the same names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with public data sets and GPT-2's tokenizer files; tests that need it skip without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the data sets in {SHARED.name}/ beside the checkout, which is absent")
    return SHARED


@pytest.fixture(scope="session")
def sms_file(shared_dir: Path) -> Path:
    """The UCI SMS Spam Collection as published: 5,574 lines of label<TAB>text."""
    return shared_dir / "data" / "sms-spam" / "SMSSpamCollection"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has an empty cache, and never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LASTTOKEN_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    return folder


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """Any connection to another host than this one fails the test that tried it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)

    socket.socket.connect = guarded  # type: ignore[method-assign, assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


FIGURES = ("lasttoken.report.curves.write_figure", "lasttoken.report.plots.write_figure")


@pytest.fixture(autouse=True, scope="session")
def blank_figures() -> Iterator[None]:
    """Nothing is drawn: drawing takes three quarters of a miniature run's time. See `real_figures`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FIGURES:
            patch.setattr(name, blank_figure)
        yield


@pytest.fixture
def real_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn in the test that asks for this."""
    for name in FIGURES:
        monkeypatch.setattr(name, write_figure)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder: three random blocks, 64 positions."""
    return write_backbone(tmp_path_factory.mktemp("backbone"), random_gpt(n_positions=64))


@pytest.fixture
def bundled_default(monkeypatch: pytest.MonkeyPatch) -> str:
    """The bundled backbone is the default in the test that asks for this; its name. It is large for a repository."""
    monkeypatch.delenv("LASTTOKEN_BACKBONE")
    file = files("lasttoken") / "bundled" / f"{BUNDLED}.gguf"
    if not file.is_file():
        pytest.skip(f"needs the weights of the bundled backbone, {file}, which are absent")
    return BUNDLED


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


@pytest.fixture
def other_run(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of the run that gives every test row the first label."""
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    rows = rows_of(other / "predictions" / "test.csv")
    for row in rows:
        row["predicted"] = "ham"
    write_csv(other / "predictions" / "test.csv", rows)
    metrics = json.loads((other / "metrics.json").read_text())
    metrics["splits"]["test"]["accuracy"] = float(np.mean([row["label"] == "ham" for row in rows]))
    (other / "metrics.json").write_text(json.dumps(metrics))
    return other


@pytest.fixture(scope="session")
def blended_run(tmp_path_factory: pytest.TempPathFactory, backbone: Path) -> Path:
    """A finished run whose classifier contains word n-grams. Read only: copy it before you change it."""
    folder = tmp_path_factory.mktemp("blended")
    data = write_messages(folder / "messages.csv", *messages(240))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASTTOKEN_CACHE", str(folder / "cache"))
        answer = run_cli(
            "train", data, "--backbone", backbone, "--out", folder / "blend", "--epochs", 1, "--ngrams", "words"
        )
    assert answer.code == 0, answer.err
    return folder / "blend"
