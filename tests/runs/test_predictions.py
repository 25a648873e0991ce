"""predictions/*.csv has the rows of the split in their order, and the predictions that the metrics count."""

from __future__ import annotations

from pathlib import Path

from miniature import messages, run_cli
from run_folders import read_metrics, rows_of


def test_predictions_match_the_metrics_row_by_row(run_dir: Path) -> None:
    metrics = read_metrics(run_dir)
    for split in ("validation", "test"):
        rows, examples = rows_of(run_dir / f"predictions/{split}.csv"), rows_of(run_dir / f"splits/{split}.csv")
        assert [row["label"] for row in rows] == [row["label"] for row in examples]
        n_correct = sum(row["label"] == row["predicted"] for row in rows)
        assert n_correct / len(rows) == metrics["splits"][split]["accuracy"]
        n_baseline_correct = sum(row["label"] == row["baseline tfidf-logreg"] for row in rows)
        assert n_baseline_correct / len(rows) == metrics["baselines"]["tfidf-logreg"][split]["accuracy"]
        assert [row["text"] for row in rows] == [row["text"] for row in examples]
        assert [int(row["row"]) for row in rows] == list(range(1, len(rows) + 1))
        assert all(row["probability"] == row[f"probability of {row['predicted']}"] for row in rows)
        assert "id" not in rows[0]


def test_predictions_have_the_ids_of_the_data(tmp_path: Path, backbone: Path) -> None:
    texts, labels = messages(60)
    lines = [f'key-{row},"{text}",{label}\n' for row, (text, label) in enumerate(zip(texts, labels, strict=True))]
    (tmp_path / "a.csv").write_text("key,text,label\n" + "".join(lines), "utf-8")
    ids = {text: f"key-{row}" for row, text in enumerate(texts)}
    flags = ("--id", "key", "--backbone", backbone, "--epochs", 1, "--no-cache", "--out", tmp_path / "run")
    assert run_cli("train", tmp_path / "a.csv", *flags).code == 0
    rows = rows_of(tmp_path / "run/predictions/test.csv")
    assert next(iter(rows[0])) == "id"
    assert [row["id"] for row in rows] == [ids[row["text"]] for row in rows]
