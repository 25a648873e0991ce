"""What the pages promise is there: modules, commands, flags, and the examples' answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import typer.main
from miniature import blank_curves, run_cli

from lasttoken.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NETWORK = ("sms-spam", "gpt2")  # data and weights that have to be fetched
MAIN = "from lasttoken.cli.main import main; main()"


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


def test_architecture_draws_every_package_in_its_layer() -> None:
    drawing = re.search(r"## The map.*?\n\n((?:    .*\n)+)", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.S)
    assert drawing
    drawn = [re.match(r"    (\w+(?: \| \w+)*)", line) for line in drawing[1].splitlines()]
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]
    assert [layer[1] for layer in drawn if layer] == layers["layers"]
    there = {path.stem for path in (ROOT / "src" / "lasttoken").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name for layer in layers["layers"] for name in layer.split(" | ")} == there - {
        "__init__", "__pycache__", "pocket", "demo",
    }  # fmt: skip


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks, without comments."""
    lines = "\n".join(code_blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def commands(page: Path) -> list[list[str]]:
    return [shlex.split(line, comments=True)[1:] for line in shell_lines(page) if line.startswith("lasttoken ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_accepted(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], [word for word in words[1:] if word not in ("|", ">")], resilient_parsing=False)


def test_the_readme_has_commands_and_two_targets() -> None:
    assert len(commands(README)) >= 5
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for target in re.findall(r"^make (\w+)", README.read_text("utf-8"), re.M):
        assert target in targets


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) < 150


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_of_a_page_gives_the_shell_a_variable(page: Path) -> None:
    """What follows a dollar sign between double quotes is another text than the page shows."""
    for line in shell_lines(page):
        unquoted = re.sub(r"'[^']*'", "", line)
        assert not re.search(r"\$(?!\()", unquoted), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_installs_from_the_checkout(page: Path) -> None:
    assert "pip install 'lasttoken" not in page.read_text("utf-8"), "there is no such package in an index"


@pytest.mark.slow
def test_every_command_of_the_readme_that_needs_no_network_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "lasttoken.runs.write.draw_curves", blank_curves
    )  # slower than all else, and no command shows them
    runners: dict[str, Callable[[str], None]] = {
        "lasttoken": _run_lasttoken, "cp": _run_in_shell, "source": _check_activation, "make": _check_target,
    }  # fmt: skip
    run = [line for line in shell_lines(README) if not any(name in line for name in NETWORK)]
    assert len(run) >= 20
    for line in run:
        runners[line.split()[0]](line)


def _run_lasttoken(line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0] == "serve":
        _serve(words)
        return
    answer = run_cli(*words)
    assert answer.code == 0, (line, answer.err)


def _run_in_shell(line: str) -> None:
    subprocess.run(["sh", "-c", line], check=True)


def _check_activation(line: str) -> None:
    assert shlex.split(line, comments=True) == ["source", ".venv/bin/activate"]


def _check_target(line: str) -> None:
    if shutil.which("make"):
        subprocess.run(["sh", "-c", line.replace("make", "make --dry-run")], check=True, cwd=ROOT, capture_output=True)


def _serve(words: list[str]) -> None:
    """Serve on a free port, ask for the page, and stop with Ctrl-C."""
    command = [sys.executable, "-c", MAIN, *words, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            assert process.stderr is not None
            address = next(
                found[0] for line in process.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))
            )
            assert _status_of(address) == 200
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(60) in (0, 130)
        finally:
            process.kill()


def _status_of(address: str) -> int:
    """The status of a page, asked for until somebody answers: the address is said just before the port is open."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"nobody answers at {address}")


def test_the_readme_example_runs_and_answers_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = code_blocks(README, "python")
    monkeypatch.chdir(tmp_path)
    exec(compile(first, "README.md", "exec"), {})
    printed = capsys.readouterr().out.strip().splitlines()
    expected = code_blocks(README, "text")[0].strip().splitlines()
    digits = re.compile(r"\d+")
    assert [digits.sub("#", line) for line in printed] == [digits.sub("#", line) for line in expected]
    for block in others:
        exec(compile(block, "README.md", "exec"), {})
    assert re.fullmatch(r"accuracy 0\.\d+\n", capsys.readouterr().out)
