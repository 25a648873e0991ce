"""The server as a process: a real client, the page in a real browser, and its end."""

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
from miniature import messages, run_cli
from serving.conftest import TOKEN

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
TEXTS, _ = messages(12)


@contextmanager
def server(*runs: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`lasttoken serve` on a free port: the process, and its address."""
    command = [*PROGRAM, "serve", *map(str, runs), "--port", "0", "--device", "cpu"]
    with tempfile.NamedTemporaryFile("r+") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:\d+/", Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.05)
            _until_ready(found[0])
            yield process, found[0]
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
    """Whether somebody is connected to the server."""
    port = f":{int(address.rstrip('/').rsplit(':', 1)[1]):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(port) and line.split()[3] == "01" for line in lines)


def post(address: str, body: Any) -> Any:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def address(runs: list[Path]) -> Iterator[str]:
    with server(*runs) as (_, found):
        yield found


def test_the_hub_s_client_is_answered(address: str, predictor: Predictor) -> None:
    found = InferenceClient(model=f"{address}models/spam").text_classification(TEXTS[0], top_k=2)
    (expected,) = predictor.predict(TEXTS[:1])
    assert [(one.label, round(one.score, 5)) for one in found] == [
        (label, round(p, 5)) for label, p in sorted(expected.probs.items(), key=lambda item: -item[1])
    ]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc to see that the request has arrived")
def test_sigterm_answers_what_is_under_way_and_ends_well(runs: list[Path]) -> None:
    with server(runs[0]) as (process, address):
        found: list[Any] = []
        long = {"texts": ["win a prize now " * 10] * 900}
        asking = threading.Thread(target=lambda: found.append(post(f"{address}classify", long)))
        asking.start()
        while asking.is_alive() and not established(address):
            time.sleep(0.01)
        time.sleep(0.2)  # for the body to arrive
        process.send_signal(signal.SIGTERM)
        asking.join(30)
        assert len(found[0]["predictions"]) == 900
        assert process.wait(30) in (0, -signal.SIGTERM)


def test_a_weights_file_that_changes_changes_no_answer(runs: list[Path], tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(run, tmp_path / run.name)) for run in runs]
    with server(*folders) as (process, address):
        before = post(f"{address}classify", {"texts": TEXTS, "model": "*"})
        for folder in folders:
            weights = folder / "model.safetensors"
            with weights.open("r+b") as file:  # in place: the same file, which may be mapped
                file.seek(weights.stat().st_size // 4)
                file.write(b"\x3f" * (weights.stat().st_size // 2))
        assert post(f"{address}classify", {"texts": TEXTS, "model": "*"}) == before
        for folder in folders:
            with (folder / "model.safetensors").open("r+b") as file:
                file.truncate(0)
        assert post(f"{address}classify", {"texts": TEXTS, "model": "*"}) == before
        assert post(f"{address}explain", {"text": TEXTS[0], "model": "spam"})["words"]
        assert process.poll() is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port is 70000"),
        (["--max-queue", "0"], "--max-queue is 0"),
        (["--deadline", "0"], "--deadline is 0"),
        (["--host", "256.0.0.1"], "cannot listen on 256.0.0.1"),
        (["--token-file", "nowhere"], "--token-file nowhere cannot be read"),
    ],
)
def test_what_cannot_be_served(runs: list[Path], flags: list[str], message: str) -> None:
    answer = run_cli("serve", runs[0], *flags)
    assert answer.code == 2
    assert message in answer.err


def test_a_token_that_is_too_short(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTTOKEN_TOKEN", "short")
    assert "LASTTOKEN_TOKEN holds no token of 16 signs" in run_cli("serve", runs[0]).err
    monkeypatch.delenv("LASTTOKEN_TOKEN")
    assert "two of the runs are called 'spam'" in run_cli("serve", runs[0], runs[0]).err


def test_an_address_that_is_taken(runs: list[Path], address: str) -> None:
    port = address.rstrip("/").rsplit(":", 1)[1]
    answer = run_cli("serve", runs[0], "--port", port)
    assert answer.code == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in answer.err


# The page ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra [test]")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page of the server of both runs, which must raise no error and reach no other host."""
    context = browser.new_context()
    found, errors = context.new_page(), []
    found.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on(
        "request",
        lambda request: errors.append(request.url) if not request.url.startswith((address, "data:", "blob:")) else None,
    )
    found.goto(address)
    found.wait_for_selector("#facts table")
    yield found
    context.close()
    assert errors == []


@pytest.mark.slow
def test_texts_are_classified_by_keyboard_and_words_are_shown(page: Any, predictor: Predictor) -> None:
    page.select_option("#model", "spam")
    page.focus("#text")
    page.keyboard.type(f"{TEXTS[0]}\n<b>{TEXTS[1]}</b>")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".answer")
    shown = [one.inner_text() for one in page.query_selector_all(".answer .label")]
    assert shown == [one.label for one in predictor.predict([TEXTS[0], f"<b>{TEXTS[1]}</b>"])]
    assert page.query_selector_all(".answer blockquote")[1].inner_text() == f"<b>{TEXTS[1]}</b>"
    page.click(".answer button")
    page.wait_for_selector(".answer mark")
    assert page.query_selector(".answer blockquote").inner_text() == TEXTS[0]
    assert page.query_selector("meter").get_attribute("aria-label").startswith("probability of ")


@pytest.mark.slow
def test_a_file_is_classified_and_given_back(page: Any, predictor: Predictor, tmp_path: Path) -> None:
    rows = [["key", "text"], *([str(at), f'{TEXTS[at % 12]}, "{at}"\nnext line'] for at in range(250))]
    with (tmp_path / "big.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    page.select_option("#model", "spam")
    page.set_input_files("#file", str(tmp_path / "big.csv"))
    page.wait_for_selector("#start:visible")
    assert page.eval_on_selector("#column", "one => one.selectedOptions[0].textContent") == "text"
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=60_000)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "big.scored.csv"
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == [text for _, text in rows[1:]]
    expected = [one.label for one in predictor.predict([text for _, text in rows[1:]])]
    assert [row["predicted_label"] for row in found] == expected


@pytest.mark.slow
def test_a_page_that_is_denied_asks_for_the_token(browser: Any, runs: list[Path]) -> None:
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
def test_the_page_fits_and_everything_has_a_name(browser: Any, address: str, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in ("", "docs"):
        page.goto(f"{address}{path}")
        page.wait_for_selector("#facts table, details")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.goto(address)
    page.wait_for_selector("#facts table")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea, button')]"
        ".filter(one => !(one.labels && one.labels.length) && !one.textContent.trim() && !one.ariaLabel)"
        ".map(one => one.id)"
    )
    assert unnamed == []
    page.close()
