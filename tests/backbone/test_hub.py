"""Backbones fetched from a hub on the loopback address: whole, cut, wrong, late, rejected, killed halfway."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Server, closed_port, files_in, in_turn, kill_after, run_to_the_end, serving, start_fetching

from lasttoken.backbone import hub as module
from lasttoken.backbone.hub import fetch_backbone
from lasttoken.core.errors import BackboneError, NetworkError, StorageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
TENSORS = struct.pack("<Q", 2) + b"{}"  # a safetensors file without tensors
CONFIG = json.dumps({"model_type": "gpt2", "n_embd": 8}).encode()
INDEX = json.dumps({"weight_map": {"wte.weight": SHARDS[0], "wpe.weight": SHARDS[1]}}).encode()
SINGLE = {"config.json": CONFIG, "tokenizer.json": b"{}", "model.safetensors": TENSORS}
SHARDED = {
    "config.json": CONFIG,
    "vocab.json": b"{}",
    "merges.txt": b"#version: 0.2\n",
    "model.safetensors.index.json": INDEX,
    SHARDS[0]: TENSORS + b" ",
    SHARDS[1]: TENSORS + b"  ",
}
CLUTTER = {
    "README.md": b"#",
    "pytorch_model.bin": b"pickle",
    "tf_model.h5": b"tf",
    "onnx/config.json": b"{}",
    "onnx/model.onnx": b"onnx",
    "vocab.json": b"{}",
    "merges.txt": b"#version: 0.2\n",
    "generation_config.json": b"{}",
}


def hub(files: dict[str, bytes], repo_id: str = "openai-community/gpt2") -> Callable[[str, str], Answer]:
    """A hub with one repository, at the revisions main and v1."""

    def answer(method: str, path: str) -> Answer:
        path = path.partition("?")[0]
        for revision in ("main", "v1", COMMIT):
            if path == f"/api/models/{repo_id}/revision/{revision}":
                siblings = [{"rfilename": name} for name in files]
                return Answer(json.dumps({"id": repo_id, "sha": COMMIT, "siblings": siblings}).encode())
            name = path.removeprefix(f"/{repo_id}/resolve/{revision}/")
            if name in files:
                etag = hashlib.sha256(files[name]).hexdigest()
                return Answer(files[name], headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        known = path.startswith(f"/api/models/{repo_id}/")
        return Answer(status=404, headers={"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})

    return answer


@pytest.fixture
def hub_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache of this test. The hub reads its settings when it is imported, so they are set in place."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(own_cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return own_cache / "hub"


def point_hub_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def hub_serving(answer: Callable[[str, str], Answer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(answer) as server:
        point_hub_at(server.address, monkeypatch)
        yield server


def fetch_quickly(name: str, **options: Any) -> Path:
    quick: dict[str, Any] = {"timeout_s": 5.0, "backoff_s": 0.01}
    return fetch_backbone(name, **quick | options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unusable(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> tuple[str, Server]:
    with hub_serving(hub(files), monkeypatch) as server, pytest.raises(BackboneError) as caught:
        fetch_quickly("gpt2")
    assert str(caught.value).startswith("the backbone 'openai-community/gpt2' at 'main' cannot be used: ")
    assert not [path for _, path in server.asked if path.endswith((".safetensors", ".bin"))], "weights were fetched"
    return str(caught.value), server


def test_backbone_is_fetched_once_and_works_offline(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(CLUTTER | SINGLE), monkeypatch) as server:
        folder = fetch_quickly("gpt2")
        asked = len(server.asked)
        assert fetch_quickly("gpt2") == folder
        assert fetch_quickly("openai-community/gpt2", offline=True) == folder
        assert len(server.asked) == asked
    point_hub_at(closed_port(), monkeypatch)
    assert fetch_quickly("gpt2") == folder
    assert contents(folder) == SINGLE
    assert folder.is_relative_to(hub_cache)


def test_only_the_api_and_the_files_are_requested(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(CLUTTER | SINGLE), monkeypatch) as server:
        fetch_quickly("gpt2")
    asked = {path.partition("?")[0] for _, path in server.asked}
    base = "/openai-community/gpt2/resolve/main/"
    assert asked == {"/api/models/openai-community/gpt2/revision/main"} | {base + name for name in SINGLE}
    assert not [agent for agent in server.user_agents if "torch" in agent or "agent/" in agent]


def test_shards_and_merges(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SHARDED), monkeypatch):
        assert contents(fetch_quickly("gpt2")) == SHARDED


def test_single_file_wins_over_shards(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SHARDED | SINGLE), monkeypatch):
        assert contents(fetch_quickly("gpt2")) == SINGLE


@pytest.mark.parametrize("revision", ["v1", COMMIT])
def test_revision(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, revision: str) -> None:
    with hub_serving(hub(SINGLE, "someone/gpt2-news"), monkeypatch) as server:
        folder = fetch_quickly(f"someone/gpt2-news@{revision}")
    assert {path.split("/")[-2] for _, path in server.asked if "resolve" in path} == {revision}
    assert fetch_quickly(f"someone/gpt2-news@{revision}", offline=True) == folder
    with pytest.raises(NetworkError):
        fetch_quickly("someone/gpt2-news", offline=True)


@pytest.mark.parametrize("missing", sorted(SHARDED))
def test_incomplete_cache_is_completed(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    with hub_serving(hub(SHARDED), monkeypatch):
        folder = fetch_quickly("gpt2")
        (folder / missing).unlink()
        with pytest.raises(NetworkError, match="not in the cache"):
            fetch_quickly("gpt2", offline=True)
        assert fetch_quickly("gpt2") == folder
    assert contents(folder) == SHARDED


def test_backbone_offline(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = r"^the backbone 'gpt2' is not in the cache.*run `lasttoken fetch gpt2` with a network, or pass a folder"
    with hub_serving(hub(SINGLE), monkeypatch) as server:
        with pytest.raises(NetworkError, match=sentence):
            fetch_quickly("gpt2", offline=True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(NetworkError, match=sentence):
            fetch_quickly("gpt2")
    assert server.asked == []


def test_no_safetensors(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = CLUTTER | {"config.json": CONFIG, "tokenizer.json": b"{}"}
    sentence, server = unusable(files, monkeypatch)
    assert "it has no model.safetensors" in sentence
    assert "save_pretrained(folder, safe_serialization=True)" in sentence
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config.json": None}, "it has no config.json"),
        ({"tokenizer.json": None}, "it has no tokenizer.json, nor vocab.json and merges.txt"),
        ({"config.json": b'{"model_type": "bert"}'}, "model_type 'bert'"),
        ({"config.json": b"[1]"}, "its config.json is not a JSON object"),
        ({"config.json": b"{"}, "its config.json is not a JSON object"),
    ],
)
def test_unusable_repository(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, bytes | None], reason: str
) -> None:
    files = {name: content for name, content in (SINGLE | change).items() if content is not None}
    assert reason in unusable(files, monkeypatch)[0]


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (b'{"weight_map": {"wte.weight": "../../evil.safetensors"}}', "names files that are not safetensors shards"),
        (b'{"weight_map": {"wte.weight": "model.bin"}}', "names files that are not safetensors shards"),
        (b'{"weight_map": {}}', "names files that are not safetensors shards"),
        (b'{"weight_map": {"wte.weight": 1}}', "is not an index"),
        (b"{}", "is not an index"),
        (b"", "is not an index"),
    ],
)
def test_unusable_index(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, index: bytes, reason: str) -> None:
    assert reason in unusable(SHARDED | {"model.safetensors.index.json": index}, monkeypatch)[0]


def test_repository_not_found_names_the_nearest(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server, pytest.raises(BackboneError) as caught:
        fetch_quickly("openai-community/gpt2-medum")
    assert server.address in str(caught.value)
    assert "no readable model 'openai-community/gpt2-medum'" in str(caught.value)
    assert "did you mean 'openai-community/gpt2-medium'" in str(caught.value)
    assert files_in(hub_cache) == []


def test_revision_not_found(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SINGLE), monkeypatch), pytest.raises(BackboneError, match="has no branch, tag or commit 'v7'"):
        fetch_quickly("gpt2@v7")


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [(403, "GatedRepo", "is gated; accept its terms at"), (401, "", r"may not be read \(status 401\)")],
)
def test_no_permission_to_read(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: str
) -> None:
    answer = Answer(status=status, headers={"X-Error-Code": code})
    with hub_serving(in_turn(answer), monkeypatch), pytest.raises(BackboneError, match=reason) as caught:
        fetch_quickly("gpt2")
    assert "run `hf auth login` or set HF_TOKEN" in str(caught.value)


def test_a_gated_repository_may_be_listed_but_not_fetched(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = hub(SINGLE, "google/gemma-3-270m")

    def answer(method: str, path: str) -> Answer:
        is_file = "/resolve/" in path
        return Answer(status=403, headers={"X-Error-Code": "GatedRepo"}) if is_file else listing(method, path)

    with hub_serving(answer, monkeypatch) as server, pytest.raises(BackboneError) as caught:
        fetch_quickly("gemma-3-270m")
    terms = f"{server.address}/google/gemma-3-270m"
    assert f"accept its terms at {terms}, then run `hf auth login` or set HF_TOKEN" in str(caught.value)


def test_a_backbone_of_the_package_index_has_no_revision(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server, pytest.raises(BackboneError, match="without revisions"):
        fetch_quickly("smollm2-135m-q4@main")
    assert server.asked == []


@pytest.mark.parametrize("name", ["a/b/c", "../b", "a--b/c", "a/b@", "a/b@../../x", "a/b@x y", "/", "a/", "ä/b"])
def test_not_a_hub_id(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server, pytest.raises(BackboneError, match="is not a"):
        fetch_quickly(name)
    assert server.asked == []


def test_name_without_a_slash_is_one_of_the_catalog(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server:
        with pytest.raises(BackboneError, match=r"no backbone 'gtp2'; .*did you mean 'gpt2'"):
            fetch_quickly("gtp2")
        with pytest.raises(BackboneError, match="'smollm2-135m-b16' comes with the package"):
            fetch_quickly("smollm2-135m-b16")
    assert server.asked == []


def test_hub_unreachable(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    point_hub_at(closed_port(), monkeypatch)
    with pytest.raises(NetworkError, match=r"could not fetch the backbone 'gpt2' from http.*: Connection refused; run"):
        fetch_quickly("gpt2")
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_does_not_answer(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(in_turn(Answer(delay_s=0.3)), monkeypatch), pytest.raises(NetworkError, match="no answer within"):
        fetch_quickly("gpt2", timeout_s=0.05)


def test_a_server_that_is_not_a_hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for body in (b"<html>please log in</html>", b"[1]", b"{}"):
        with (
            hub_serving(in_turn(Answer(body)), monkeypatch),
            pytest.raises(NetworkError, match="not that of a model hub"),
        ):
            fetch_quickly("gpt2")


@pytest.mark.parametrize("part", ["api/models", "tokenizer.json"])
def test_hub_503_twice(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    failures = [Answer(status=503), Answer(status=503)]
    whole = hub(SINGLE)
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    monkeypatch.setattr(listener, "emit", said.append)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "handlers", [listener])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with hub_serving(
        lambda method, path: failures.pop() if failures and part in path else whole(method, path), monkeypatch
    ):
        assert contents(fetch_quickly("gpt2")) == SINGLE
    assert failures == []
    assert said == []


def test_hub_cuts_the_weights(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hub(SINGLE)

    def cut(method: str, path: str) -> Answer:
        found = whole(method, path)
        torn = method == "GET" and path.endswith("model.safetensors")
        return replace(found, body=found.body[:5], announced=len(found.body)) if torn else found

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with hub_serving(cut, monkeypatch), pytest.raises(NetworkError, match="could not fetch the backbone 'gpt2'"):
        fetch_quickly("gpt2")
    with pytest.raises(NetworkError, match="not in the cache"):
        fetch_quickly("gpt2", offline=True)


def test_hub_cache_that_cannot_be_written(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_cache.write_text("not a folder")
    with hub_serving(hub(SINGLE), monkeypatch), pytest.raises(StorageError, match="a file is where a folder is needed"):
        fetch_quickly("gpt2")


def test_hub_disk_full(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with hub_serving(hub(SINGLE), monkeypatch), pytest.raises(StorageError, match="disk is full"):
        fetch_quickly("gpt2")


def test_hub_settings_are_put_back(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils import logging as hub_logging
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    before = (False, hub_logging.get_verbosity(), are_progress_bars_disabled())
    point_hub_at(closed_port(), monkeypatch)
    with pytest.raises(NetworkError):
        fetch_quickly("gpt2")
    assert (constants.HF_HUB_DISABLE_TELEMETRY, hub_logging.get_verbosity(), are_progress_bars_disabled()) == before


@pytest.mark.parametrize(("wanted", "terminal"), [(True, True), (True, False), (False, True)])
def test_hub_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch, wanted: bool, terminal: bool) -> None:
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with module._quiet_hub(wanted):
        assert are_progress_bars_disabled() == (not (wanted and terminal))
    assert not are_progress_bars_disabled()


def test_killed_while_fetching_a_backbone(own_cache: Path, hub_cache: Path) -> None:
    files = SINGLE | {"model.safetensors": TENSORS + bytes(100_000)}
    whole = hub(files)

    def slowly(method: str, path: str) -> Answer:
        found = whole(method, path)
        return replace(found, chunk_bytes=max(1, len(found.body) // 10), pause_s=0.01)

    script = "from lasttoken.backbone.hub import fetch_backbone; print(fetch_backbone('gpt2'))"
    with serving(slowly) as server:
        for delay_s in (0.05, 0.25, 0.4):
            kill_after(server, start_fetching(script, own_cache, server.address), delay_s)
            for snapshot in hub_cache.glob("models--*/snapshots/*"):
                assert contents(snapshot).items() <= files.items()
        folder = run_to_the_end(script, own_cache, server.address)
    assert contents(folder) == files
    assert fetch_quickly("gpt2", offline=True) == folder


def test_without_weights_only_the_configuration_and_the_tokenizer_are_fetched(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {name: content for name, content in SINGLE.items() if name != "model.safetensors"}
    for on_the_hub in (SINGLE, without):
        with hub_serving(hub(on_the_hub), monkeypatch) as server:
            folder = fetch_quickly("gpt2", with_weights=False)
        assert not [path for _, path in server.asked if path.endswith(".safetensors")]
        assert {path.name for path in folder.iterdir()} == {"config.json", "tokenizer.json"}
    assert fetch_quickly("gpt2", with_weights=False, offline=True) == folder
    with pytest.raises(NetworkError, match="backbone 'gpt2' is not in the cache"):
        fetch_quickly("gpt2", offline=True)
    with pytest.raises(
        NetworkError, match=r"tokenizer of 'gpt2-xl' is not in the cache.*config.json and tokenizer.json"
    ):
        fetch_quickly("gpt2-xl", offline=True, with_weights=False)
