"""A server of two processes: one set of answers and counters, no request lost while workers are replaced or killed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from miniature import run_cli
from serving.conftest import TEXTS, TOKEN
from serving.load_clients import Tally, load

from lasttoken.classifier.predict import Predictor
from lasttoken.core.errors import SettingsError
from lasttoken.serving.options import ServerOptions
from lasttoken.serving.workers import service as module
from lasttoken.serving.workers.process import WorkerProcess
from lasttoken.serving.workers.worker import Ready

PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
AUTHORIZATION = {"authorization": f"Bearer {TOKEN}"}

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="several workers need POSIX")


class Running:
    """A server of two workers, with a token, in processes of its own."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.run = run
        self._log, self.temporaries = folder / "log", folder / "temporaries"
        self.temporaries.mkdir()
        environment = {**os.environ, "LASTTOKEN_TOKEN": TOKEN, "TMPDIR": str(self.temporaries)}
        command = [*PROGRAM, "serve", str(run), "--port", "0", "--device", "cpu", "--workers", "2"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)
        self.until(lambda: re.search(r"http://127\.0\.0\.1:(\d+)/", self.said()))
        self.port = int(re.findall(r"http://127\.0\.0\.1:(\d+)/", self.said())[0])

    def said(self) -> str:
        return self._log.read_text()

    def until(self, is_so: Callable[[], Any]) -> None:
        limit = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < limit, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)

    def ask(self, path: str, body: Any = None, headers: dict[str, str] = AUTHORIZATION) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {**headers, "content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            return content

    def counters(self) -> dict[str, float]:
        lines = self.ask("/metrics").decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"}

    def n_starts(self) -> int:
        return int(self.counters()["lasttoken_worker_starts_total"])

    def pids(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in tasks if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def loaded(self, during: Callable[[], None], retries: int = 0) -> Tally:
        """Clients ask while `during` runs in a thread; some keep their connections, and some do not."""

        async def both() -> Tally:
            tally = Tally()
            asking = asyncio.create_task(load(self.port, {"text": "win a prize"}, tally, 4, 2, retries, TOKEN))
            await asyncio.sleep(0.3)
            try:
                await asyncio.to_thread(during)
                await asyncio.sleep(0.3)
            finally:
                tally.stop = True
                await asking
            return tally

        return asyncio.run(both())


@pytest.fixture(scope="module")
def running(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("workers")
    server = Running(Path(shutil.copytree(run_dir, folder / "spam")), folder)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(20)


def test_all_workers_answer_alike_and_count_together(running: Running, predictor: Predictor) -> None:
    before = running.counters()
    answers = {running.ask("/classify", {"texts": TEXTS[:3]}) for _ in range(12)}
    (answer,) = (json.loads(answer) for answer in answers)
    expected = [prediction.label for prediction in predictor.predict(TEXTS[:3])]
    assert [row["label"] for row in answer["predictions"]] == expected
    assert len({running.ask("/v1/models") for _ in range(6)}) == 1, "created is the server's start"
    after = running.counters()
    name = 'lasttoken_requests_total{path="/classify",status="200"}'
    assert after[name] - before.get(name, 0) == 12
    assert after["lasttoken_texts_total"] - before["lasttoken_texts_total"] == 36
    assert after['lasttoken_request_seconds_count{path="/classify"}'] >= 12
    assert after["lasttoken_workers"] == 2


def test_the_token_holds_in_every_worker_and_health_is_open(running: Running) -> None:
    for _ in range(8):
        with pytest.raises(urllib.error.HTTPError) as caught:
            running.ask("/classify", {"text": "a"}, {})
        caught.value.close()
        assert caught.value.code == 401
        assert json.loads(running.ask("/health", headers={})) == {"ready": True}


@pytest.mark.slow
def test_no_request_is_lost_while_workers_are_replaced(running: Running) -> None:
    before = running.counters()
    pids, n_starts = running.pids(), running.n_starts()

    def replace() -> None:
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: running.n_starts() == n_starts + 2 and running.counters()["lasttoken_workers"] == 2)

    tally = running.loaded(replace)
    assert tally.n_lost == 0, tally
    assert tally.statuses[200] > 50
    assert not set(pids) & set(running.pids())
    name = 'lasttoken_requests_total{path="/classify",status="200"}'
    assert running.counters()[name] - before.get(name, 0) == tally.statuses[200], "counters survive their workers"


@pytest.mark.slow
def test_a_killed_worker_is_replaced_from_the_copy_and_a_retry_is_enough(running: Running) -> None:
    moved = running.run.rename(running.run.with_name("moved"))
    try:
        n_starts = running.n_starts()

        def kill() -> None:
            os.kill(running.pids()[0], signal.SIGKILL)
            running.until(lambda: running.n_starts() == n_starts + 1)

        tally = running.loaded(kill, retries=1)
        assert tally.n_lost == 0, tally
        assert "was killed by signal 9" in running.said()
        assert len(running.pids()) == 2
        running.process.send_signal(signal.SIGHUP)  # the run has gone: the old workers stay
        running.until(lambda: "are not replaced" in running.said())
        assert str(running.run) in running.said()
        assert running.counters()["lasttoken_workers"] == 2
    finally:
        moved.rename(running.run)


def test_lines_of_the_log_are_whole(running: Running) -> None:
    lines = [line for line in running.said().splitlines() if line.startswith("{")]
    assert len(lines) > 10
    assert {json.loads(line)["event"] for line in lines} == {"request"}


def test_sigterm_lets_a_request_finish_and_leaves_nothing(running: Running) -> None:
    """The last test of this server."""
    pids = running.pids()
    answers: list[bytes] = []

    async def scenario() -> None:
        long = {"texts": ["win a prize now " * 10] * 600}
        asking = asyncio.create_task(asyncio.to_thread(running.ask, "/classify", long))
        await asyncio.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        answers.append(await asking)

    asyncio.run(scenario())
    assert len(json.loads(answers[0])["predictions"]) == 600
    assert running.process.wait(30) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(running.temporaries.iterdir()) == []


# Wrong inputs ------------------------------------------------------------------------------------------------------


def test_no_workers_are_rejected(run_dir: Path) -> None:
    answer = run_cli("serve", run_dir, "--workers", 0)
    assert (answer.code, "--workers is 0" in answer.err) == (2, True)


def test_a_port_in_use_is_one_sentence_before_any_worker_starts(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "start_process", lambda *_: pytest.fail("no worker may start"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        answer = run_cli("serve", run_dir, "--workers", 2, "--port", other.getsockname()[1])
    assert answer.code == 2
    assert answer.err.count("cannot listen") == 1


def test_a_folder_that_is_not_a_run_is_rejected_before_any_worker_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "start_process", lambda *_: pytest.fail("no worker may start"))
    answer = run_cli("serve", tmp_path / "nowhere", "--workers", 2, "--port", 0)
    assert answer.code == 2
    assert "nowhere" in answer.err


@pytest.mark.slow
def test_a_run_that_no_worker_can_load_ends_the_server_with_its_sentence(run_dir: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_dir, tmp_path / "broken"))
    with (run / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    answer = run_cli("serve", run, "--workers", 2, "--port", 0)
    assert answer.code == 2
    assert answer.err.count("model.safetensors") == 1


class _Service:
    """What a server would say, without processes."""

    def __init__(self, run: Path, folder: Path, n_workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = folder / str(n_workers)
        folder.mkdir(exist_ok=True)
        self.said: list[str] = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        options = ServerOptions(workers=n_workers)
        monkeypatch.setattr(module, "copy_runs", lambda runs, names, folder: list(runs))
        self.hooks = module._Service([run], options, self.said.append, self.listener, folder).hooks()
        self.first = WorkerProcess(0, 0, None, None, ready=Ready(("serving spam",)))  # type: ignore[arg-type]


@pytest.fixture
def make_service(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[_Service] = []

    def make(n_workers: int) -> _Service:
        made.append(_Service(run_dir, tmp_path, n_workers, monkeypatch))
        return made[-1]

    yield make
    for service in made:
        service.listener.close()


def test_more_workers_than_cores_are_reported(make_service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    for n_workers, is_said in ((2, False), (3, True)):
        service = make_service(n_workers)
        service.hooks.on_open(service.first)
        assert any("--workers is 3" in sentence for sentence in service.said) == is_said
        assert "serving spam" in service.said


def test_more_workers_than_memory_are_rejected_with_a_number_that_fits(
    make_service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "pid", 4711)
    monkeypatch.setattr(module, "own_bytes", lambda _: 2_000_000_000)
    monkeypatch.setattr(module, "free_bytes", lambda: 5_000_000_000)
    with pytest.raises(SettingsError, match=r"--workers is 4.*at most --workers 3"):
        make_service(4).hooks.on_first(make_service(4).first)
    make_service(3).hooks.on_first(make_service(3).first)
    monkeypatch.setattr(module, "own_bytes", lambda _: None)
    make_service(4).hooks.on_first(make_service(4).first)


def test_the_parent_imports_neither_torch_nor_uvicorn() -> None:
    code = (
        "import sys, lasttoken.serving.workers.service, lasttoken.classifier.run_dir; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'uvicorn', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
