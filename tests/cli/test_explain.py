"""`lasttoken explain`: words with their values, on the terminal, as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path

from miniature import run_cli


def test_the_table_and_json_name_the_words(run_dir: Path) -> None:
    answer = run_cli("explain", run_dir, "win a prize", "--json")
    assert answer.code == 0, answer.err
    explanation = json.loads(answer.out)
    assert "".join(word["text"] for word in explanation["words"]) == "win a prize"
    shown = run_cli("explain", run_dir, "win a prize").out
    assert "win a prize" in shown
    assert explanation["label"] in shown


def test_a_page_is_written_and_its_path_checked_first(run_dir: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert run_cli("explain", run_dir, "win a prize", "--html", page).code == 0
    assert "prize" in page.read_text("utf-8")
    answer = run_cli("explain", run_dir, "win", "--html", tmp_path / "none" / "page.html")
    assert answer.code == 2
    assert "--html" in answer.err


def test_a_cut_text_is_reported(run_dir: Path) -> None:
    assert "truncated" in run_cli("explain", run_dir, "win " * 200).err
