"""Fetching against real servers on the loopback address: whole, cut, wrong, late, refused, and killed halfway."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lasttoken.backbone import hub as module
from lasttoken.backbone.hub import fetch_backbone
from lasttoken.core.errors import BackboneError, DataError, NetworkError, StorageError
from lasttoken.core.retries import RetryableError
from lasttoken.data import catalog, datasets
from lasttoken.data.catalog import DatasetEntry
from lasttoken.data.datasets import fetch_dataset

CONTENT = b"".join(b"ham\tmessage %d, quite harmless\n" % i for i in range(400))
TINY = DatasetEntry(
    name="tiny",
    url="http://127.0.0.1:9/tiny.zip",
    archive_bytes=None,
    member="TinyCollection",
    member_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="none needed",
    citation="",
    description="",
)


def make_zip(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """A zip of the members given, in that order; `evil` is written as ../evil."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as folder:
        for name, content in members.items():
            folder.writestr("../evil" if name == "evil" else name, content)
    return packed.getvalue()


WHOLE = make_zip(readme=b"read me", TinyCollection=CONTENT)


# ---- servers


@dataclass
class Answer:
    """What a server sends: `announced` is its Content-Length where it is not the body's."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    delay_s: float = 0.0  # before anything is sent
    chunk_bytes: int | None = None  # sent piece by piece
    pause_s: float = 0.0  # after each piece


@dataclass
class Server:
    """A loopback server that answers by `answer(method, path)` and keeps what it was asked."""

    address: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    user_agents: list[str] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(answer: Callable[[str, str], Answer]) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.asked.append((self.command, self.path))
            server.user_agents.append(self.headers.get("User-Agent", ""))
            server.arrived.set()
            with suppress(ConnectionError):  # the client is gone: it gave up, or was killed
                self.send(answer(self.command, self.path))

        do_HEAD = do_GET  # noqa: N815

        def send(self, found: Answer) -> None:
            time.sleep(found.delay_s)
            self.send_response(found.status)
            announced = len(found.body) if found.announced is None else found.announced
            for name, value in ({"Content-Length": str(announced)} | found.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            step = found.chunk_bytes or len(found.body) or 1
            for start in range(0, len(found.body), step):
                self.wfile.write(found.body[start : start + step])
                self.wfile.flush()
                time.sleep(found.pause_s)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_address[1]}")
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


def in_turn(*answers: Answer) -> Callable[[str, str], Answer]:
    """The answers one after another, the last for ever."""
    left = list(answers)
    return lambda method, path: left.pop(0) if len(left) > 1 else left[0]


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# ---- data sets


@pytest.fixture(autouse=True)
def tiny_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.DATASETS, "tiny", TINY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetch_tiny(url: str, **options: Any) -> Path:
    quick: dict[str, Any] = {"url": url + "/tiny.zip", "timeout_s": 5.0, "backoff_s": 0.01}
    return fetch_dataset("tiny", **quick | options)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def refused(cache: Path, answer: Answer, **options: Any) -> tuple[str, Server]:
    """The one sentence that fetching from such a server ends in, after a look at what it left behind."""
    with serving(lambda method, path: answer) as server, pytest.raises(NetworkError) as caught:
        fetch_tiny(server.address, **options)
    sentence = str(caught.value)
    assert files_in(cache) == []
    assert "\n" not in sentence
    assert sentence.startswith("could not fetch tiny: ")
    assert (
        f"put the file 'TinyCollection' that is in it at {cache / 'datasets' / 'tiny' / 'TinyCollection'}" in sentence
    )
    return sentence, server


def test_whole_is_fetched_once(own_cache: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    with serving(in_turn(Answer(WHOLE))) as server:
        path = fetch_tiny(server.address, progress=lambda done, total: seen.append((done, total)))
        again = fetch_tiny(server.address)
    assert path == again == own_cache / "datasets" / "tiny" / "TinyCollection"
    assert path.read_bytes() == CONTENT
    assert server.asked == [("GET", "/tiny.zip")]
    assert server.user_agents == ["lasttoken"]
    assert seen[-1] == (len(WHOLE), len(WHOLE))
    assert files_in(own_cache) == ["datasets/tiny/TinyCollection"]


def test_the_sms_collection(own_cache: Path, sms_file: Path) -> None:
    packed = make_zip(SMSSpamCollection=sms_file.read_bytes(), readme=b"about it")
    with serving(in_turn(Answer(packed))) as server:
        path = fetch_dataset("sms-spam", url=server.address)
    assert path == own_cache / "datasets" / "sms-spam" / "SMSSpamCollection"
    assert path.read_bytes() == sms_file.read_bytes()


def test_unknown_dataset() -> None:
    with pytest.raises(DataError, match="did you mean 'sms-spam'"):
        fetch_dataset("sms-span")


def test_present_is_used_offline(own_cache: Path) -> None:
    with serving(in_turn(Answer(WHOLE))) as server:
        path = fetch_tiny(server.address)
    assert fetch_tiny(closed_port(), offline=True) == path


def test_put_there_by_hand_is_accepted(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    assert fetch_tiny(closed_port()) == target


@pytest.mark.parametrize("content", [b"", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_wrong_file_in_the_cache_is_refused_and_kept(own_cache: Path, content: bytes) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.parent.mkdir(parents=True)
    target.write_bytes(content)
    with pytest.raises(DataError) as caught:
        fetch_tiny(closed_port())
    for part in (str(target), f"{len(content):,} bytes", hashlib.sha256(content).hexdigest(), TINY.sha256, "delete it"):
        assert part in str(caught.value)
    assert target.read_bytes() == content


def test_offline_says_where_to_put_it(own_cache: Path) -> None:
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(NetworkError) as caught:
        fetch_tiny(server.address, offline=True)
    assert server.asked == []
    assert "offline" in str(caught.value)
    assert f"{server.address}/tiny.zip" in str(caught.value)
    assert str(own_cache / "datasets" / "tiny" / "TinyCollection") in str(caught.value)
    assert not (own_cache / "datasets").exists()


def test_unreachable(own_cache: Path) -> None:
    with pytest.raises(
        NetworkError, match="could not fetch tiny: Connection refused; try again later, or download http"
    ):
        fetch_tiny(closed_port())
    assert files_in(own_cache) == []


def test_reason_is_not_what_the_caller_was_handling() -> None:
    try:
        raise FileNotFoundError(errno.ENOENT, "no such folder")
    except FileNotFoundError:
        with pytest.raises(NetworkError, match="could not fetch tiny: Connection refused"):
            fetch_tiny(closed_port())


def test_503_twice_then_whole() -> None:
    with serving(in_turn(Answer(status=503), Answer(status=503), Answer(WHOLE))) as server:
        assert fetch_tiny(server.address).read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_cut_then_whole() -> None:
    cut = Answer(bytes(200_000), announced=300_000)  # longer than the whole that follows: nothing of it may stay
    with serving(in_turn(cut, Answer(WHOLE))) as server:
        assert fetch_tiny(server.address).read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_status_that_may_pass_is_tried_four_times(own_cache: Path, status: int) -> None:
    sentence, server = refused(own_cache, Answer(status=status))
    assert f"the server answered {status} " in sentence
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [401, 404, 410])
def test_status_that_stays_is_tried_once(own_cache: Path, status: int) -> None:
    sentence, server = refused(own_cache, Answer(status=status))
    assert f"the server answered {status} " in sentence
    assert len(server.asked) == 1


def test_waits_double(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    with pytest.raises(NetworkError):
        fetch_tiny(closed_port(), backoff_s=1.0)
    assert waits == [1.0, 2.0, 4.0]


def test_retry_after_is_respected() -> None:
    with serving(in_turn(Answer(status=503, headers={"Retry-After": "1"}), Answer(WHOLE))) as server:
        start = time.monotonic()
        fetch_tiny(server.address)
    assert time.monotonic() - start >= 1.0


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_beyond_the_bound_is_not_waited_for(own_cache: Path, form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=7200), usegmt=True)
    header = {"Retry-After": "7200" if form == "seconds" else date}
    sentence, server = refused(own_cache, Answer(status=429, headers=header))
    assert "429 Too Many Requests and asks to wait 7" in sentence
    assert len(server.asked) == 1


def test_cut_always(own_cache: Path) -> None:
    sentence, server = refused(own_cache, Answer(WHOLE[:-20], announced=len(WHOLE)))
    assert "the download was cut off" in sentence
    assert len(server.asked) == 4


def test_slow_server(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(WHOLE, delay_s=0.4), timeout_s=0.05)
    assert "no answer within 0.05 s" in sentence


def test_silence_in_the_body(own_cache: Path) -> None:
    sentence, server = refused(own_cache, Answer(WHOLE, chunk_bytes=len(WHOLE) // 2, pause_s=0.4), timeout_s=0.1)
    assert "no answer within 0.1 s" in sentence
    assert len(server.asked) == 4


def test_slow_but_steady_is_not_late() -> None:
    start = time.monotonic()
    with serving(in_turn(Answer(WHOLE, chunk_bytes=len(WHOLE) // 40, pause_s=0.02))) as server:
        assert fetch_tiny(server.address, timeout_s=0.5).read_bytes() == CONTENT
    assert time.monotonic() - start > 0.5


def test_not_a_zip(own_cache: Path) -> None:
    sentence, server = refused(own_cache, Answer(b"<html>please log in</html>"))
    assert "not a whole zip file" in sentence
    assert len(server.asked) == 1


def test_cut_without_a_length(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(WHOLE[: len(WHOLE) // 2]))
    assert "not a whole zip file" in sentence


def test_wrong_content_says_found_and_expected(own_cache: Path) -> None:
    other = CONTENT[:-1] + b"!"
    sentence, _ = refused(own_cache, Answer(make_zip(TinyCollection=other)))
    assert f"{len(other):,} bytes and sha256 {hashlib.sha256(other).hexdigest()}" in sentence
    assert f"{len(CONTENT):,} bytes and sha256 {TINY.sha256}" in sentence


def test_short_content_says_found_and_expected(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(make_zip(TinyCollection=b"ham\thi\n")))
    assert "has 7 bytes and sha256" in sentence


def test_member_larger_than_published_is_not_unpacked(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def describe(path: Path) -> str:
        written.append(path.stat().st_size)
        return ""

    monkeypatch.setattr(datasets, "_describe", describe)
    sentence, _ = refused(own_cache, Answer(make_zip(TinyCollection=bytes(50_000_000))))
    assert f"has more than the published {len(CONTENT):,} bytes" in sentence
    assert written == [len(CONTENT) + 1]


def test_member_missing(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(make_zip(readme=b"hello")))
    assert "the zip has no file 'TinyCollection', only 'readme'" in sentence


def test_names_in_the_zip_are_not_paths(own_cache: Path) -> None:
    with serving(in_turn(Answer(make_zip(evil=b"boo", TinyCollection=CONTENT)))) as server:
        fetch_tiny(server.address)
    assert files_in(own_cache) == ["datasets/tiny/TinyCollection"]


def test_only_an_evil_name(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(make_zip(evil=CONTENT)))
    assert "no file 'TinyCollection', only '../evil'" in sentence


def test_more_than_any_published_zip_is_not_read_to_its_end(own_cache: Path) -> None:
    sentence, _ = refused(own_cache, Answer(bytes(datasets.ARCHIVE_SLACK_BYTES + len(CONTENT) + 1)))
    assert "the server sends more than 1,0" in sentence


def test_encrypted_member(own_cache: Path) -> None:
    packed = bytearray(WHOLE)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for start in [i for i in range(len(packed)) if packed.startswith(signature, i)]:
            struct.pack_into("<H", packed, start + offset, 1)
    sentence, _ = refused(own_cache, Answer(bytes(packed)))
    assert "not a whole zip file" in sentence
    assert "encrypted" in sentence


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6),
    end=st.integers(0, len(WHOLE)),
    cut=st.booleans(),
    stored=st.booleans(),
)
def test_any_damage_is_whole_or_refused(
    own_cache: Path, edits: list[tuple[int, int]], end: int, cut: bool, stored: bool
) -> None:
    packed = bytearray(make_zip(zipfile.ZIP_STORED, TinyCollection=CONTENT) if stored else WHOLE)
    for where, value in edits:
        packed[-1 - where] = value  # the directory, where zipfile looks first, is at the end
    target = own_cache / "fuzz"
    target.unlink(missing_ok=True)
    try:
        datasets._extract(io.BytesIO(packed[:end] if cut else packed), TINY, target)
    except RetryableError:
        assert files_in(own_cache) == []
    else:
        assert target.read_bytes() == CONTENT


# ---- the disk


def test_disk_full_while_downloading(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(StorageError, match=r"disk is full.*TinyCollection"):
        fetch_tiny(server.address)
    assert len(server.asked) == 1
    assert files_in(own_cache) == []


def test_disk_full_while_unpacking(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with serving(in_turn(Answer(WHOLE))) as server, pytest.raises(StorageError, match=r"disk is full.*TinyCollection"):
        fetch_tiny(server.address)
    assert files_in(own_cache) == []


def test_cache_that_is_a_file(own_cache: Path) -> None:
    (own_cache / "datasets").write_text("not a folder")
    with pytest.raises(StorageError, match="a file is where a folder is needed"):
        fetch_tiny(closed_port())


def test_folder_where_the_file_belongs(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    target.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"TinyCollection cannot be read: Is a directory; move it away"):
        fetch_tiny(closed_port())


# ---- backbones: the little of the hub that is asked


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


def test_only_the_api_and_the_files_are_asked_for(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"config.json": b'{"model_type": "llama"}'}, "model_type 'llama'"),
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
def test_no_right_to_read(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, reason: str
) -> None:
    answer = Answer(status=status, headers={"X-Error-Code": code})
    with hub_serving(in_turn(answer), monkeypatch), pytest.raises(BackboneError, match=reason) as caught:
        fetch_quickly("gpt2")
    assert "run `hf auth login` or set HF_TOKEN" in str(caught.value)


@pytest.mark.parametrize("name", ["a/b/c", "../b", "a--b/c", "a/b@", "a/b@../../x", "a/b@x y", "/", "a/", "ä/b"])
def test_not_a_hub_id(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server, pytest.raises(BackboneError, match="is not a"):
        fetch_quickly(name)
    assert server.asked == []


def test_name_without_a_slash_is_one_of_the_catalog(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(hub(SINGLE), monkeypatch) as server:
        with pytest.raises(BackboneError, match="no backbone 'gtp2'; did you mean 'gpt2'"):
            fetch_quickly("gtp2")
        with pytest.raises(BackboneError, match="'pocket' comes with the package"):
            fetch_quickly("pocket")
    assert server.asked == []


def test_hub_unreachable(hub_cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    point_hub_at(closed_port(), monkeypatch)
    with pytest.raises(NetworkError, match=r"could not fetch the backbone 'gpt2' from http.*: Connection refused; run"):
        fetch_quickly("gpt2")
    assert capfd.readouterr() == ("", "")


def test_hub_that_says_nothing(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_serving(in_turn(Answer(delay_s=0.3)), monkeypatch), pytest.raises(NetworkError, match="no answer within"):
        fetch_quickly("gpt2", timeout_s=0.05)


def test_hub_that_is_something_else(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# ---- killed


def start_fetching(script: str, cache: Path, endpoint: str) -> subprocess.Popen[str]:
    settings = {"LASTTOKEN_CACHE": str(cache), "HF_HUB_CACHE": str(cache / "hub"), "HF_ENDPOINT": endpoint}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | settings
    return subprocess.Popen(
        [sys.executable, "-c", script], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_to_the_end(script: str, cache: Path, endpoint: str) -> Path:
    stdout, stderr = start_fetching(script, cache, endpoint).communicate(timeout=30)
    assert stderr == ""
    return Path(stdout.strip())


def kill_after(server: Server, process: subprocess.Popen[str], delay_s: float) -> None:
    """Kill -9, `delay_s` after the first request arrived."""
    server.arrived.wait(timeout=30)
    time.sleep(delay_s)
    process.kill()
    process.communicate()
    server.arrived.clear()


def test_killed_while_fetching_a_dataset(own_cache: Path) -> None:
    target = own_cache / "datasets" / "tiny" / "TinyCollection"
    slow = Answer(WHOLE, chunk_bytes=len(WHOLE) // 20, pause_s=0.02)
    with serving(in_turn(slow)) as server:
        script = (
            "from lasttoken.data import catalog\nfrom lasttoken.data.datasets import fetch_dataset\n"
            f"catalog.DATASETS['tiny'] = catalog.{TINY!r}\n"
            f"print(fetch_dataset('tiny', url='{server.address}/tiny.zip'))"
        )
        for delay_s in random.Random(5).choices([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.43, 0.46, 0.5], k=5):
            kill_after(server, start_fetching(script, own_cache, server.address), delay_s)
            finished = [name for name in files_in(own_cache) if ".tmp-" not in name]
            assert finished in ([], ["datasets/tiny/TinyCollection"])
            if finished:
                assert target.read_bytes() == CONTENT
                target.unlink()
        assert run_to_the_end(script, own_cache, server.address) == target
    assert target.read_bytes() == CONTENT


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
