"""`lasttoken push` against a hub on this machine, which keeps what is committed to it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from export.conftest import MakeRun
from miniature import run_cli

from lasttoken.classifier.predict import Predictor


@dataclass
class Hub:
    """What the hub was asked, and what it holds. `reject`: the status that it answers to everything."""

    reject: int | None = None
    address: str = ""
    asked: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> Any:
        """The JSON answer to a request."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.address}/someone/spam", "name": "someone/spam", "id": "1"}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if "/commit/" in path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return {"commitUrl": f"{self.address}/someone/spam/commit/1", "commitOid": "1" * 40, "success": True}
        return {"id": "someone/spam", "sha": "1" * 40, "siblings": [], "private": False, "tags": []}


@contextmanager
def running(hub: Hub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            hub.asked.append(self.path)
            hub.tokens.add(self.headers.get("authorization"))
            content = json.dumps({"error": "no"} if hub.reject else hub.answer(self.path, body)).encode()
            self.send_response(hub.reject or 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    local = Hub()
    with running(local) as address:
        local.address = address
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", "hf_token_of_the_test")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield local


def test_a_run_arrives_with_its_card(hub: Hub, make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    answer = run_cli("push", run, "someone/spam", "--private")
    assert answer.code == 0, answer.err
    assert answer.out.strip().endswith("someone/spam")
    assert "truncation=True" in answer.err  # the notes of the export
    assert hub.created[0]["name"] == "spam"
    assert hub.created[0]["organization"] == "someone"
    assert hub.created[0].get("private") is True or hub.created[0].get("visibility") == "private"
    assert set(hub.files) == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    assert "Bearer hf_token_of_the_test" in hub.tokens
    folder = tmp_path / "arrived"
    folder.mkdir()
    for name, content in hub.files.items():
        (folder / name).write_bytes(content)
    from transformers import pipeline

    classify: Any = pipeline("text-classification", model=str(folder), device="cpu")
    expected = Predictor.load(run, "cpu").predict(["win a prize"])[0]
    (answered,) = classify(["win a prize"])
    assert (answered["label"], answered["score"]) == (expected.label, pytest.approx(expected.score, abs=1e-5))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "does not accept the token (401)"),
        (403, "may not write to someone/spam (403)"),
        (500, "the hub answered 500"),
    ],
)
def test_a_status_of_the_hub_is_one_error(
    status: int, message: str, hub: Hub, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.reject = status
    answer = run_cli("push", make_run(), "someone/spam")
    assert answer.code == 1, answer.err
    assert message in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("error:")]) == 1


def test_invalid_names_offline_and_an_unreachable_hub(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    run = make_run()
    for name in ("spam", "a/b/c", "/spam"):
        assert "not a valid repository name" in run_cli("push", run, name).err
    offline = run_cli("push", run, "someone/spam", "--offline")
    assert (offline.code, "--offline forbids it" in offline.err) == (1, True)
    assert "--read mean" in run_cli("push", make_run(read="mean"), "someone/spam").err
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setenv("HF_TOKEN", "hf_token_of_the_test")
    unreachable = run_cli("push", run, "someone/spam")
    assert (unreachable.code, "could not be pushed" in unreachable.err) == (1, True)
