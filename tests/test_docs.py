"""What the pages promise is there: modules, commands, flags, and the example's answer."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from lasttoken.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def code_blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.S)


def test_architecture_lists_every_module_once() -> None:
    listed = re.findall(r"^\| `(lasttoken[\w.]+)` \|", (ROOT / "ARCHITECTURE.md").read_text("utf-8"), re.M)
    source = ROOT / "src"
    there = [
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path in source.rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(listed) == sorted(there)


def commands(page: Path) -> list[list[str]]:
    lines = "\n".join(code_blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.strip().startswith("lasttoken ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_accepted(page: Path) -> None:
    group = typer.main.get_command(app)
    for words in commands(page):
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], [word for word in words[1:] if word not in ("|", ">")], resilient_parsing=False)


def test_the_readme_has_commands_and_two_targets() -> None:
    assert len(commands(ROOT / "README.md")) >= 5
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for target in re.findall(r"^make (\w+)", (ROOT / "README.md").read_text("utf-8"), re.M):
        assert target in targets


@pytest.mark.parametrize("page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def test_the_readme_example_runs_and_answers_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = code_blocks(ROOT / "README.md", "python")[0], code_blocks(ROOT / "README.md", "text")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.strip().splitlines()
    expected = answer.strip().splitlines()
    digits = re.compile(r"\d+")
    assert [digits.sub("#", line) for line in printed] == [digits.sub("#", line) for line in expected]
