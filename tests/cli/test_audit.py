"""`lasttoken audit`: tables, --json, --html, --strict, and what a user gets wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import POCKET, run_cli

CLEAN = ["a boat on the lake", "nobody heard the phone", "grey stones, wet grass", "we leave on Sunday"]
EVIL = "<script>alert(1)</script> [bold]and so on, and so on[/bold]"


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("text,label\n" + "".join(f'"{text}",{"ab"[at % 2]}\n' for at, text in enumerate(texts)), "utf-8")
    return path


def test_clean_data_exits_0(tmp_path: Path, backbone: Path) -> None:
    answer = run_cli("audit", write(tmp_path / "some.csv", CLEAN), "--backbone", backbone, "--strict", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    assert "no problems" in answer.out
    assert "some.csv" in answer.out


def test_findings_exit_1_when_strict(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [*CLEAN, EVIL])
    write(tmp_path / "test.csv", ["the same lake, no boat", EVIL])
    answer = run_cli("audit", tmp_path)
    assert answer.code == 0
    assert "1 test row " in answer.out
    assert EVIL in answer.out
    assert run_cli("audit", tmp_path / "test.csv", tmp_path / "train.csv", "--strict").code == 1


def test_long_lists_are_cut_but_whole_in_json(tmp_path: Path) -> None:
    texts = [f"{word} is the word of the day, and it is told to everyone" for word in map(chr, range(97, 123))]
    write(tmp_path / "train.csv", texts)
    write(tmp_path / "test.csv", texts)
    assert "16 more" in run_cli("audit", tmp_path, "--quiet").out
    content = json.loads(run_cli("audit", tmp_path, "--json", "--quiet").out)
    assert len(content["leaks"]) == 26
    assert content["backbone"] == POCKET
    assert content["splits"]["train"]["cut"]["max_length"] > 0


def test_the_page_is_one_escaped_file(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [*CLEAN, EVIL])
    write(tmp_path / "test.csv", [EVIL])
    assert run_cli("audit", tmp_path, "--html", tmp_path / "page.html", "--quiet").code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page
    assert "1 test row is also in train" in page


def test_a_page_of_clean_data(tmp_path: Path) -> None:
    run_cli("audit", write(tmp_path / "some.csv", CLEAN), "--html", tmp_path / "page.html", "--quiet")
    assert "No problems were found" in (tmp_path / "page.html").read_text("utf-8")


def test_rows_without_text_or_label_are_reported_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("text,label\nhello,a\n,b\nyou,\n")
    answer = run_cli("audit", tmp_path / "some.csv", "--quiet")
    assert answer.code == 0
    assert "(row 2)" in answer.out
    assert "(row 3)" in answer.out


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        (None, [], "there is no file"),
        ("", [], "is empty"),
        ("text,label\n", [], "but no rows"),
        ("text\nhello\n", [], "it is not obvious which column of some.csv holds the label"),
        ("a,b,c\n1,2,3\n", [], "it is not obvious which column of some.csv holds the text"),
        ("text,label\nhello\n", [], "row 1 (line 2) of some.csv has 1 field"),
        ("text,label\nhello,a\n", ["--label", "kind"], "some.csv has no column 'kind'"),
        ("text,label\nhello,a\n", ["--encoding", "klingon"], "--encoding is 'klingon'"),
        ("text,label\nhello,a\n", ["--backbone", "pocked"], "there is no backbone 'pocked'"),
        (
            "text,label\nhello,a\n",
            ["--html", "nowhere/page.html"],
            "--html nowhere/page.html: there is no folder nowhere",
        ),
        ("text,label\nhello,a\n", ["--html", "."], "--html . is a folder"),
    ],
)
def test_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("some.csv").write_text(content)
    before = sorted(tmp_path.iterdir())
    answer = run_cli("audit", "some.csv", *arguments, "--quiet")
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert len(answer.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before
