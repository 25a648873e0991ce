"""The server as a process: a real client, the page in a real browser, and its shutdown."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from miniature import run_cli
from serving.conftest import TEXTS, TOKEN

from lasttoken.classifier.predict import Predictor

PROGRAM = [sys.executable, "-c", "from lasttoken.cli.main import main; main()"]
CHROMIUM = next(
    (
        path
        for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
        if Path(path).exists()
    ),
    None,
)


@contextmanager
def server(*runs: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `lasttoken serve` on a free port; yields the process and its URL."""
    command = [*PROGRAM, "serve", *map(str, runs), "--port", "0", "--device", "cpu"]
    with tempfile.NamedTemporaryFile("r+") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})
        try:
            while not (url := re.search(r"http://127\.0\.0\.1:\d+/", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.05)
            _until_ready(url[0])
            yield process, url[0]
        finally:
            process.kill()
            process.wait(20)


def _until_ready(address: str) -> None:
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)


def established(address: str) -> bool:
    """Whether a client is connected to the server."""
    port = f":{int(address.rstrip('/').rsplit(':', 1)[1]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines)


def post(address: str, body: Any) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def served_runs(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Copies of both runs, for the one server that most tests ask."""
    folder = tmp_path_factory.mktemp("served-copies")
    return [Path(shutil.copytree(run, folder / run.name)) for run in runs]


@pytest.fixture(scope="module")
def address(served_runs: list[Path]) -> Iterator[str]:
    with server(*served_runs) as (_, url):
        yield url


def test_the_hub_s_client_is_answered(address: str, predictor: Predictor) -> None:
    answer = InferenceClient(model=f"{address}models/spam").text_classification(TEXTS[0], top_k=2)
    (expected,) = predictor.predict(TEXTS[:1])
    assert [(entry.label, round(entry.score, 5)) for entry in answer] == [
        (label, round(p, 5)) for label, p in sorted(expected.probs.items(), key=lambda item: -item[1])
    ]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to see that the request has arrived")
def test_sigterm_lets_a_request_finish_and_ends_the_process(runs: list[Path]) -> None:
    with server(runs[0]) as (process, address):
        answers: list[Any] = []
        long = {"texts": ["win a prize now " * 10] * 900}
        asking = threading.Thread(target=lambda: answers.append(post(f"{address}classify", long)))
        asking.start()
        while asking.is_alive() and not established(address):
            time.sleep(0.01)
        time.sleep(0.2)  # for the body to arrive
        process.send_signal(signal.SIGTERM)
        asking.join(30)
        assert len(answers[0]["predictions"]) == 900
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_overwriting_and_truncating_the_weights_files_changes_no_answer(address: str, served_runs: list[Path]) -> None:
    before = post(f"{address}classify", {"texts": TEXTS, "model": "*"})
    for run in served_runs:
        weights = run / "model.safetensors"
        with weights.open("r+b") as file:  # in place: the same file, which may be mapped
            file.seek(weights.stat().st_size // 4)
            file.write(b"\x3f" * (weights.stat().st_size // 2))
    assert post(f"{address}classify", {"texts": TEXTS, "model": "*"}) == before
    for run in served_runs:
        with (run / "model.safetensors").open("r+b") as file:
            file.truncate(0)
    assert post(f"{address}classify", {"texts": TEXTS, "model": "*"}) == before
    assert post(f"{address}explain", {"text": TEXTS[0], "model": "spam"})["words"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--max-queue", "0"], "--max-queue is 0"),
        (["--deadline", "0"], "--deadline is 0"),
        (["--host", "256.0.0.1"], "256.0.0.1"),
        (["--token-file", "nowhere"], "--token-file nowhere"),
    ],
)
def test_an_invalid_flag_is_rejected_by_its_name(runs: list[Path], flags: list[str], named: str) -> None:
    answer = run_cli("serve", runs[0], *flags)
    assert answer.code == 2
    assert named in answer.err


def test_a_token_that_is_too_short_is_rejected(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTTOKEN_TOKEN", "short")
    answer = run_cli("serve", runs[0])
    assert answer.code == 2
    assert "LASTTOKEN_TOKEN" in answer.err


def test_a_port_in_use_is_rejected(runs: list[Path], address: str) -> None:
    port = address.rstrip("/").rsplit(":", 1)[1]
    answer = run_cli("serve", runs[0], "--port", port)
    assert answer.code == 2
    assert f"127.0.0.1 port {port}" in answer.err


# The page ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra [test]")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The page of the server of both runs; fails if it raises an error or sends a request to another host."""
    context = browser.new_context()
    opened, errors = context.new_page(), []
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on(
        "request",
        lambda request: errors.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None,
    )
    opened.goto(address)
    opened.wait_for_selector("#facts table")
    yield opened
    context.close()
    assert errors == []


@pytest.mark.slow
def test_texts_are_classified_by_keyboard_and_words_are_shown(page: Any, predictor: Predictor) -> None:
    page.select_option("#model", "spam")
    page.focus("#text")
    page.keyboard.type(f"{TEXTS[0]}\n<b>{TEXTS[1]}</b>")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".answer")
    labels = [element.inner_text() for element in page.query_selector_all(".answer .label")]
    assert labels == [prediction.label for prediction in predictor.predict([TEXTS[0], f"<b>{TEXTS[1]}</b>"])]
    assert page.query_selector_all(".answer blockquote")[1].inner_text() == f"<b>{TEXTS[1]}</b>"
    page.click(".answer button")
    page.wait_for_selector(".answer mark")
    assert page.query_selector(".answer blockquote").inner_text() == TEXTS[0]
    assert page.query_selector("meter").get_attribute("aria-label").startswith("probability of ")


@pytest.mark.slow
def test_a_file_is_classified_and_offered_for_download(page: Any, predictor: Predictor, tmp_path: Path) -> None:
    rows = [["key", "text"], *([str(row), f'{TEXTS[row % 12]}, "{row}"\nnext line'] for row in range(250))]
    with (tmp_path / "big.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    page.select_option("#model", "spam")
    page.set_input_files("#file", str(tmp_path / "big.csv"))
    page.wait_for_selector("#start:visible")
    assert page.eval_on_selector("#column", "select => select.selectedOptions[0].textContent") == "text"
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=60_000)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "big.scored.csv"
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        scored = list(csv.DictReader(file))
    assert [row["text"] for row in scored] == [text for _, text in rows[1:]]
    expected = [prediction.label for prediction in predictor.predict([text for _, text in rows[1:]])]
    assert [row["predicted_label"] for row in scored] == expected


@pytest.mark.slow
def test_the_page_asks_for_the_token_when_it_is_rejected(browser: Any, runs: list[Path]) -> None:
    with server(runs[0], LASTTOKEN_TOKEN=TOKEN) as (_, address):
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#token:visible")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#facts table")
        assert page.is_hidden("#access")
        page.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 800, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_every_control_has_a_name(browser: Any, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in ("", "docs"):
        page.goto(f"{address}{path}")
        page.wait_for_selector("#facts table, details")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.goto(address)
    page.wait_for_selector("#facts table")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea, button')]"
        ".filter(node => !(node.labels && node.labels.length) && !node.textContent.trim() && !node.ariaLabel)"
        ".map(node => node.id)"
    )
    assert unnamed == []
    page.close()
