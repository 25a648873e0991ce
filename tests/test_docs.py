"""What the pages promise is true: commands run, examples print what is shown, links and names lead somewhere."""

from __future__ import annotations

import json
import os
import pkgutil
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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from miniature import run_cli

from lasttoken.cli.main import app
from lasttoken.evaluation.intervals import wilson_interval
from lasttoken.evaluation.tasks.choice import task_of
from lasttoken.evaluation.verdict import judge

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "lasttoken"
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
ALL_PAGES = [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"]
RUN_PAGES = [README, *(DOCS / f"{name}.md" for name in (
    "commands", "files", "judging", "backbones", "export", "serving", "privacy",
))]  # fmt: skip  # docs/book.md has a test file of its own
NETWORK = ("sms-spam", "gpt2", "smollm2-135m-q4", "owner/name")  # data, weights and hubs that need the network
ONE_EPOCH = ("train", "suspects", "learning-curve")  # commands that train, here for one epoch
MAIN = "from lasttoken.cli.main import main; main()"

by_name = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks that are more than a comment."""
    lines = "\n".join(code_blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if shlex.split(line, comments=True)]


def commands(page: Path) -> list[list[str]]:
    """The arguments of each `lasttoken` command of a page's shell blocks, also behind a pipe."""
    parts = [part.strip() for line in shell_lines(page) for part in line.split(" | ")]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("lasttoken ")]


@cache
def commands_by_name() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


# Links and names --------------------------------------------------------------------------------------------------


def test_architecture_draws_every_package_in_its_layer() -> None:
    drawing = re.search(r"## The map.*?\n\n((?:    .*\n)+)", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.S)
    assert drawing
    drawn = [re.match(r"    (\w+(?: \| \w+)*)", line) for line in drawing[1].splitlines()]
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]
    assert [layer[1] for layer in drawn if layer] == layers["layers"]
    there = {path.stem for path in (ROOT / "src" / "lasttoken").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert {name for layer in layers["layers"] for name in layer.split(" | ")} == there - {
        "__init__", "__main__", "__pycache__", "bundled", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md"], ids=lambda page: page.name)
def test_every_file_of_the_project_that_a_page_names_exists(page: Path) -> None:
    """`tests/test_docs.py` from the root of the project, `core/config.py` from the root of the package."""
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|toml|md|jinja))`", prose(page)):
        example = name.startswith(("runs/", "splits/", "ch06/"))  # of a run, of the book's repository
        assert example or (ROOT / name).is_file() or (SOURCE / name).is_file(), name


@pytest.mark.parametrize(
    "page", [ROOT / "CONTRIBUTING.md", DOCS / "decisions" / "extension-points.md"], ids=lambda p: p.name
)
def test_what_a_page_says_to_edit_is_where_it_says(page: Path) -> None:
    """Each "`NAME` in `file.py`": the file defines the name."""
    text = " ".join(prose(page).split())
    pairs = re.findall(r"`([\w.]+)` (?:of|in) `([\w/.]+\.py)`", text)
    assert len(pairs) >= 5
    for name, file in pairs:
        path = SOURCE / file if (SOURCE / file).is_file() else ROOT / file
        defined = rf"^\s*(?:class|def|async def) {name}\b|^\s*{name}\b.*(?:=|:)"
        assert re.search(defined, path.read_text("utf-8"), re.M), (name, file)


def test_contributing_names_packages_that_exist() -> None:
    folders = re.findall(r"`(\w+/\w+|\w+/)`", prose(ROOT / "CONTRIBUTING.md"))
    assert len(folders) >= 3
    for folder in folders:
        assert (SOURCE / folder).is_dir() or (ROOT / folder).is_dir(), folder


@by_name
def test_every_python_name_that_a_page_names_exists(page: Path) -> None:
    for name in re.findall(r"`(lasttoken\.[\w.]+)", prose(page)):
        assert pkgutil.resolve_name(name), name


@by_name
def test_every_flag_that_a_page_names_exists(page: Path) -> None:
    known = {flag for command in commands_by_name().values() for option in command.params
             for flag in (*option.opts, *option.secondary_opts)}  # fmt: skip
    known |= {"--help", "--version", "--install-completion"}
    text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.S)
    programs = (
        "make ",
        "python ",
        "pip ",
        "pytest ",
        "git ",
        "ray ",
        "sbatch ",
        "kubectl ",
    )  # whose flags are their own
    spans = [span for span in re.findall(r"`([^`]+)`", text) if not span.startswith(programs)]
    named = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", span)}
    assert named <= known, named - known


@by_name
def test_every_command_that_prose_names_exists(page: Path) -> None:
    for span in re.findall(r"`lasttoken ([^`]+)`", prose(page)):
        name = span.split()[0]
        assert name.startswith("-") or name in commands_by_name(), span


# Commands ---------------------------------------------------------------------------------------------------------


@by_name
def test_every_command_of_a_page_is_accepted(page: Path) -> None:
    for words in commands(page):
        command = commands_by_name()[words[0]]
        command.make_context(words[0], [word for word in words[1:] if word != ">"], resilient_parsing=False)


def test_commands_md_shows_every_command() -> None:
    page = (DOCS / "commands.md").read_text("utf-8")
    assert not [name for name in commands_by_name() if f"lasttoken {name}" not in page]


@by_name
def test_no_command_of_a_page_gives_the_shell_a_variable(page: Path) -> None:
    """In double quotes the shell would replace what follows a dollar sign, so the command would get another text."""
    for line in shell_lines(page):
        unquoted = re.sub(r"'[^']*'", "", line)
        assert not re.search(r"\$(?!\()", unquoted), line


@by_name
def test_a_page_installs_from_the_checkout(page: Path) -> None:
    assert "pip install 'lasttoken" not in page.read_text("utf-8"), "there is no such package in an index"


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) < 130


def test_ci_runs_the_demo_then_the_tests_then_the_checks() -> None:
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make demo", "make test", "make check"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert {"demo", "test", "check"} <= set(targets)


@pytest.mark.slow
def test_every_command_of_the_pages_that_needs_no_network_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page in one folder, as a reader would type them, but with half of the bundled rows and for one epoch. A
    line that stands on several pages runs once."""
    (tmp_path / "src").symlink_to(ROOT / "src")
    monkeypatch.chdir(tmp_path)
    _rough_explanations(monkeypatch)
    runners: dict[str, Callable[[str], None]] = {
        "lasttoken": _run_lasttoken, "cp": _copy_half, "cut": _run_with_stdin, "source": _check_activation,
        "make": _check_target, "pip": _check_extra, "curl": lambda line: None,  # sent while the server runs
    }  # fmt: skip
    lines = dict.fromkeys(line.split("#")[0].rstrip() for page in RUN_PAGES for line in shell_lines(page))
    local = [line for line in lines if not any(name in line for name in NETWORK)]
    assert len(local) >= 35
    for line in local:
        runners[line.split()[0]](line.replace("--limit 20", "--limit 4"))


def _rough_explanations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explanations take a few points of their integral: they cost seconds, and no page shows their values."""
    monkeypatch.setattr("lasttoken.classifier.explain.FIRST_STEPS", 2)
    monkeypatch.setattr("lasttoken.classifier.explain.SMALL_GAP", 1e9)


def _run_lasttoken(line: str, stdin: bytes = b"") -> None:
    words = shlex.split(line)[1:]
    if words[0] == "serve":
        _serve(words)
        return
    if words[0] in ONE_EPOCH and "--only-baselines" not in words:
        at = words.index("--epochs") if "--epochs" in words else len(words)
        words[at : at + 2] = ["--epochs", "1"]
    answer = run_cli(*words, stdin=stdin)
    assert answer.code == 0, (line, answer.err)


def _copy_half(line: str) -> None:
    """Copy a file as the page says, then keep its header and every second row."""
    subprocess.run(["sh", "-c", line], check=True)
    path = Path(shlex.split(line)[1]).name
    header, *rows = Path(path).read_text("utf-8").splitlines(keepends=True)
    Path(path).write_text("".join([header, *rows[::2]]), "utf-8")


def _run_with_stdin(line: str) -> None:
    source, command = line.split(" | ")
    _run_lasttoken(command, subprocess.run(["sh", "-c", source], check=True, capture_output=True).stdout)


def _check_activation(line: str) -> None:
    assert shlex.split(line) == ["source", ".venv/bin/activate"]


def _check_target(line: str) -> None:
    if shutil.which("make"):
        subprocess.run(["sh", "-c", line.replace("make", "make --dry-run")], check=True, cwd=ROOT, capture_output=True)


def _check_extra(line: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert re.fullmatch(r"pip install '\.\[(\w+)\]'", line)[1] in extras  # type: ignore[index]


def _serve(words: list[str]) -> None:
    """Serve on a free port, open the page, send the requests that the pages show, and stop with Ctrl-C."""
    command = [sys.executable, "-c", MAIN, *words, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            assert process.stderr is not None
            address = next(
                match[0] for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:\d+/", line))
            )
            _fetch(address)
            for page in RUN_PAGES:
                requests = [line for line in shell_lines(page) if line.startswith("curl ")]
                for line, shown in zip(requests, code_blocks(page, "json"), strict=True):
                    assert _shape(_fetch(*_request(line, address))) == _shape(shown)
            process.send_signal(signal.SIGINT)
            process.stderr.read()
            assert process.wait(60) in (0, 130)
        finally:
            process.kill()


def _request(line: str, address: str) -> tuple[str, bytes, dict[str, str]]:
    """The address, body and headers of a `curl` line, sent to the server under test."""
    words = shlex.split(line, comments=True)
    assert words[:2] == ["curl", "-s"]
    assert words[3::2] == ["-H", "-d"]
    name, value = words[4].split(": ")
    return words[2].replace("http://127.0.0.1:8000/", address), words[6].encode(), {name: value}


def _shape(body: str) -> Any:
    """A JSON answer with its labels and numbers replaced: the keys and kinds of values."""
    numbers = re.sub(r"\d+\.\d+", "0.5", body)
    answer = json.loads(numbers)
    for prediction in answer["predictions"]:
        prediction.update(label="", probs=sorted(prediction["probs"]))
    return answer


def _fetch(address: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> str:
    """The answer to a request, sent until the server accepts it: the address is printed just before the port opens."""
    for _ in range(300):
        try:
            with urllib.request.urlopen(urllib.request.Request(address, body, headers or {}), timeout=30) as answer:
                assert answer.status == 200
                return str(answer.read().decode("utf-8"))
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            time.sleep(0.1)
    raise AssertionError(f"no answer from {address}")


# Examples ---------------------------------------------------------------------------------------------------------


def run_block(code: str, page: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that a page's Python block prints."""
    capsys.readouterr()
    exec(compile(code, page, "exec"), {})
    return capsys.readouterr().out.strip().splitlines()


def masked(text: str) -> str:
    """A text with each number replaced, because the last digits differ between processors."""
    return re.sub(r"\d+(?:\.\d+)?", "#", text)


def accuracy_line(line: str) -> tuple[float, float, float, int]:
    """The accuracy in per cent, its interval and the number of rows in the README's first line of output."""
    number = r"(\d+\.\d)%"
    match = re.fullmatch(rf"test accuracy {number} \({number} to {number}\) on (\d+) messages", line)
    assert match, line
    return float(match[1]), float(match[2]), float(match[3]), int(match[4])


def prediction_line(line: str) -> tuple[str, float, str]:
    match = re.fullmatch(r"(\w+) (\d\.\d{3}): (.+)", line)
    assert match, line
    return match[1], float(match[2]), match[3]


@pytest.mark.slow
def test_the_examples_in_python_run_and_print_what_the_pages_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _rough_explanations(monkeypatch)
    (example,) = code_blocks(README, "python")
    printed = run_block(example, "README.md", capsys)
    expected = code_blocks(README, "text")[0].strip().splitlines()
    for first in (printed[0], expected[0]):
        accuracy, low, high, n = accuracy_line(first)
        assert n == 80
        bounds = wilson_interval(round(accuracy / 100 * n), n)
        assert (low, high) == tuple(round(100 * bound, 1) for bound in bounds)
        assert accuracy >= 65  # the page shows the bundled backbone, this is the tests' small one
    answers = [prediction_line(line) for line in printed[1:]]
    shown = [prediction_line(line) for line in expected[1:]]
    assert [(label, text) for label, _, text in answers] == [(label, text) for label, _, text in shown]
    assert [label for label, *_ in answers] == ["spam", "ham"]

    (tmp_path / "runs" / "spam").symlink_to("first")  # the same training as the README's command
    answer = run_cli("predict", "runs/spam", "You won $1000!").out
    assert masked(answer) == masked(code_blocks(DOCS / "commands.md", "text")[0])
    assert answer.startswith("spam\t")
    load, cross_validate = code_blocks(DOCS / "python.md", "python")
    assert run_block(load, "python.md", capsys) == code_blocks(DOCS / "python.md", "text")[0].strip().splitlines()
    quick = cross_validate.replace("LastTokenClassifier()", "LastTokenClassifier(epochs=1)")
    assert quick != cross_validate
    (line,) = run_block(quick, "python.md", capsys)
    match = re.fullmatch(r"accuracy (0\.\d{3})", line)
    assert match
    assert float(match[1]) > 0.5


def test_the_verdict_that_the_readme_quotes_is_one_that_is_written() -> None:
    quoted = re.search(r'\*"(.*?)\."\*', " ".join(README.read_text("utf-8").split()))
    assert quoted
    truth = np.array([0, 1] * 40)
    found = judge(task_of(("ham", "spam"), None), truth, truth, {"tfidf-logreg": np.zeros(80, dtype=np.int64)})
    assert found
    assert masked(found.sentences[0]) == masked(f"{quoted[1]}.")


def test_the_readmes_results_stand_in_the_benchmarks_that_it_names() -> None:
    rows = re.findall(r"^\|(.*)\| \[\w+\]\((benchmarks/[\w.-]+)\) \|$", README.read_text("utf-8"), re.M)
    assert len(rows) >= 4
    for cells, page in rows:
        measured = (ROOT / page).read_text("utf-8")
        numbers = [cell.strip() for cell in cells.split("|")[-4:] if re.fullmatch(r"[\d.]+", cell.strip())]
        assert len(numbers) == 3
        assert all(re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", measured) for number in numbers), cells
