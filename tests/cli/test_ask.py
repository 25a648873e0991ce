"""`lasttoken ask`: an untrained backbone as a zero-shot classifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniature import messages, run_cli, write_messages


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_messages(tmp_path / "a.csv", *messages(10))


def test_ask_answers_both_ways(backbone: Path, questions: Path) -> None:
    flags = (backbone, questions, "--answers", "spam=yes,ham=no", "--prompt", "{text}?")
    replies = json.loads(run_cli("ask", *flags, "--json").out)
    assert replies["written"]["n"] == replies["scored"]["n"] == 10
    assert 0 <= replies["written"]["accuracy"] <= replies["written"]["answered"] / 10 <= 1
    assert replies["scored"]["labels"] == ["spam", "ham"]
    lines = run_cli("ask", *flags, "--quiet").out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["written", "scored"]
    assert f"accuracy {replies['scored']['accuracy'] * 100:.2f}%" in lines[1]


def test_limit_keeps_the_first_rows(backbone: Path, questions: Path) -> None:
    flags = ("--answers", "spam=yes,ham=no", "--prompt", "{text}?", "--limit", 3, "--json")
    assert json.loads(run_cli("ask", backbone, questions, *flags).out)["scored"]["n"] == 3


def test_ask_follows_the_answers_likelihood(backbone: Path, questions: Path) -> None:
    """Swapping the answers swaps the predicted labels."""
    replies = [
        json.loads(run_cli("ask", backbone, questions, "--answers", answers, "--prompt", "{text}?", "--json").out)
        for answers in ("spam=yes,ham=no", "spam=no,ham=yes")
    ]
    assert replies[0]["scored"]["accuracy"] == pytest.approx(1 - replies[1]["scored"]["accuracy"])
