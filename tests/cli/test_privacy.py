"""Privacy: no command sends anything, logs contain no texts, and runs are readable by their owner only."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from miniature import POCKET, run_cli

SECRET = "my secret letter"
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX modes and sockets")

# Runs at the start of every Python process: logs each host name that is looked up and each connection.
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", None, "", "local", b"localhost"):
            with open(os.environ["WATCH_LOG"], "a") as file:
                print(event, host, file=file)

sys.addaudithook(watch)
"""
# Runs commands one after the other in one process, and prints their exit codes as the last line.
RUN_ALL = """
import json, os, sys
from lasttoken.cli.main import main

codes = {}
for name, words in json.loads(sys.argv[1]).items():
    sys.argv = ["lasttoken", *words]
    try:
        main()
        codes[name] = 0
    except SystemExit as stop:
        codes[name] = stop.code or 0
    if os.path.exists(os.environ["WATCH_LOG"]):
        break  # so that the last command is the one that sent something
print(json.dumps(codes))
"""


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A loopback address that accepts every connection, and the bytes that were sent to it."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(1)
                    try:
                        received.append(connection.recv(10_000))
                    except OSError:
                        received.append(b"")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", received


def commands(run: Path, data: Path, backbone: Path, work: Path) -> dict[str, list[object]]:
    """The commands that use only files of this machine."""
    train = ["train", data, "--backbone", backbone, "--epochs", 1]
    return {
        "help": ["--help"],
        "train, tracked": [*train, "--out", work / "tracked", "--track", "mlflow"],
        "predict": ["predict", run, "a text"],
        "predict a file": ["predict", run, "--input", data, "--output", work / "out.csv"],
        "evaluate": ["evaluate", run, data],
        "explain": ["explain", run, "a text"],
        "audit": ["audit", data],
        "info": ["info", run],
        "generate": ["generate", POCKET, "a text", "--max-new-tokens", 2],
        "ask": ["ask", POCKET, data, "--answers", "spam=yes,ham=no", "--limit", 2],
        "export": ["export", run, "--to", "hf", "--out", work / "hf"],
        "cache": ["cache"],
        "mistake": ["predict", run],
    }


@pytest.mark.slow
@posix
def test_no_command_sends_anything(run_dir: Path, data: Path, backbone: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH, "utf-8")
    log = tmp_path / "watched.txt"
    private = ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "MLFLOW_DISABLE_TELEMETRY")
    environment = {
        name: value for name, value in os.environ.items() if name not in (*private, "PYTEST_CURRENT_TEST", "CI")
    }
    with collector() as (address, received):
        environment |= {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")]),
            "WATCH_LOG": str(log),
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), address),
            **dict.fromkeys(("OTEL_EXPORTER_OTLP_ENDPOINT", "SENTRY_DSN", "HF_ENDPOINT"), address),
        }
        words = {
            name: list(map(str, arguments)) for name, arguments in commands(run_dir, data, backbone, tmp_path).items()
        }
        done = subprocess.run(
            [sys.executable, "-c", RUN_ALL, json.dumps(words)], env=environment, cwd=tmp_path, capture_output=True
        )
        codes = json.loads(done.stdout.splitlines()[-1])
        assert not log.exists(), (list(codes)[-1], log.read_text("utf-8"))
        assert received == []
        assert codes == {name: 2 if name == "mistake" else 0 for name in words}, done.stderr.decode()


@posix
def test_the_watch_sees_what_is_sent(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH, "utf-8")
    log = tmp_path / "watched.txt"
    code = "import socket\ntry: socket.getaddrinfo('telemetry.invalid', 443)\nexcept OSError: pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WATCH_LOG": str(log)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "telemetry.invalid" in log.read_text("utf-8")


# ------------------------------------------------------------------------------------------------- modes


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_a_new_run_directory_is_readable_by_its_owner_only(
    umask: int, data: Path, backbone: Path, tmp_path: Path
) -> None:
    old = os.umask(umask)
    try:
        answer = run_cli("train", data, "--backbone", backbone, "--epochs", 1, "--out", tmp_path / "runs" / "a")
    finally:
        os.umask(old)
    assert answer.code == 0, answer.err
    assert mode(tmp_path / "runs" / "a") == 0o700
    assert mode(tmp_path / "runs") == 0o777 & ~umask, "only the folder that contains texts"


@posix
def test_an_existing_directory_keeps_its_mode(data: Path, backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "shared"
    out.mkdir()
    out.chmod(0o750)
    train = ["train", data, "--backbone", backbone, "--epochs", 1, "--out", out]
    assert run_cli(*train).code == 0
    assert mode(out) == 0o750
    assert run_cli(*train, "--overwrite").code == 0
    assert mode(out) == 0o750


@posix
def test_an_export_is_for_sharing(run_dir: Path, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        assert run_cli("export", run_dir, "--to", "hf", "--out", tmp_path / "hf").code == 0
    finally:
        os.umask(old)
    assert mode(tmp_path / "hf") == 0o755
    assert mode(tmp_path / "hf" / "config.json") == 0o644
    assert json.loads((tmp_path / "hf" / "config.json").read_text("utf-8"))["model_type"] == "gpt2"


@posix
def test_features_are_readable_by_their_owner_only(data: Path, backbone: Path, tmp_path: Path, own_cache: Path) -> None:
    old = os.umask(0o022)
    try:
        assert run_cli("train", data, "--backbone", backbone, "--epochs", 1, "--out", tmp_path / "a").code == 0
    finally:
        os.umask(old)
    assert mode(own_cache / "features") == 0o700
