"""`lasttoken study`: the table in the terminal and as JSON, and what the page of the documentation says."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from miniature import run_cli

STUDY = """
data = "{data}"
seeds = 2
[settings]
backbone = "{backbone}"
epochs = 1
train_blocks = 1
[rows.base]
[rows."[bold]two</b> blocks"]
train_blocks = 2
[rows."base again"]
"""
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory, data: Path, backbone: Path) -> Path:
    path = tmp_path_factory.mktemp("study") / "blocks.toml"
    path.write_text(STUDY.format(data=data, backbone=backbone), "utf-8")
    return path


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory, study_file: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(study_file.parent)
        patch.setenv("LASTTOKEN_CACHE", str(tmp_path_factory.mktemp("cli-study-cache")))
        answer = run_cli("study", study_file, "--quiet")
    assert answer.code == 0, answer.err
    assert answer.err == ""
    return answer.out


def test_the_table_in_the_terminal(printed: str, study_file: Path) -> None:
    lines = printed.splitlines()
    assert lines[0].split()[:6] == ["test,", "12", "rows,", "2", "seeds", "accuracy"]
    assert "[bold]two</b> blocks" in printed
    assert "same as base" in printed
    assert "points" in lines[-1]
    assert (study_file.parent / "runs" / "study-blocks" / "study.json").is_file()


def test_the_files_say_the_same(printed: str, study_file: Path) -> None:
    folder = study_file.parent / "runs" / "study-blocks"
    table = json.loads((folder / "study.json").read_text("utf-8"))
    with (folder / "study.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [row["row"] for row in table["rows"]]
    for line, row in zip(lines, table["rows"], strict=True):
        assert float(line["accuracy"]) == row["metrics"]["accuracy"]["mean"]
        assert float(line["validation_loss"]) == row["validation_loss"]["mean"]
    assert float(lines[1]["difference_low"]) == table["rows"][1]["difference"]["ci95"][0]
    assert lines[2]["same_as"] == "base"
    page = (folder / "study.html").read_text("utf-8")
    assert "[bold]two&lt;/b&gt; blocks" in page
    assert "two</b>" not in page
    assert not re.search(r"<script|https?://|<link|<img", page)


def test_resumed_as_json(printed: str, study_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study_file.parent)
    refused = run_cli("study", study_file)
    assert refused.code == 2
    assert "--resume" in refused.err
    assert len(refused.err.splitlines()) == 1 or "error:" in refused.err.splitlines()[-1]
    answer = run_cli("study", study_file, "--resume", "--rows", "base", "--json")
    assert answer.code == 0, answer.err
    assert [row["row"] for row in json.loads(answer.out)["rows"]] == ["base"]


def test_a_mistake_is_one_sentence(tmp_path: Path, study_file: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(study_file.read_text("utf-8").replace("epochs", "epoch"), "utf-8")
    for arguments in (["study", wrong], ["study", "absent.toml"], ["study", "book", "--data", "absent"]):
        answer = run_cli(*arguments)
        assert answer.code == 2
        assert len(answer.err.splitlines()) == 1
        assert "Traceback" not in answer.err


def test_the_page_shows_the_study_that_comes_with_the_package() -> None:
    shown = re.findall(r"```toml\n(.*?)```", (DOCS / "study.md").read_text("utf-8"), re.S)
    bundled = files("lasttoken").joinpath("demo/study.toml").read_text("utf-8")
    assert [tomllib.loads(block) for block in shown] == [tomllib.loads(bundled)]
