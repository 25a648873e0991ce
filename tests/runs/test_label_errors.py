"""Likely label errors: every row is ranked once, and rows that cannot be scored come last without a rank."""

from __future__ import annotations

from pathlib import Path

from miniature import messages, plain_settings, write_messages
from run_folders import rows_of

from lasttoken.core.progress import Reporter
from lasttoken.runs.label_errors import find_suspects, write_suspects


class Listener(Reporter):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


def test_rows_are_ranked_once_and_a_label_with_one_row_is_last(backbone: Path, tmp_path: Path) -> None:
    texts, labels = messages(40)
    labels[9], texts[20] = "net", "\u200b"
    data, reporter = write_messages(tmp_path / "rows.csv", texts, labels), Listener()
    settings = plain_settings(backbone=str(backbone), epochs=1, no_cache=True)
    suspects, n_estimated = find_suspects(data, settings, 3, True, reporter)
    assert sorted(suspect.row for suspect in suspects) == [*range(1, 21), *range(22, 41)]
    assert 0 <= n_estimated <= 38
    *scored, last = suspects
    assert (last.row, last.label, last.suggested, last.margin) == (10, "net", None, None)
    margins = [suspect.margin for suspect in scored if suspect.margin is not None]
    assert len(margins) == 38
    assert margins == sorted(margins)
    assert all(suspect.text == texts[suspect.row - 1] for suspect in suspects)
    assert all(suspect.suggested != suspect.label for suspect in scored)
    assert any("'net' (1 row)" in sentence for sentence in reporter.sentences)
    write_suspects(tmp_path / "suspects.csv", suspects)
    rows = rows_of(tmp_path / "suspects.csv")
    assert [row["rank"] for row in rows] == [*map(str, range(1, 39)), ""]
    assert [int(row["row"]) for row in rows] == [suspect.row for suspect in suspects]
    assert rows[0]["margin"] == f"{margins[0]:.4f}"
