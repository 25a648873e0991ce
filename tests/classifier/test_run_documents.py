"""run.toml and metrics.json are checked before they are read: a value of the wrong type is named with its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.errors import RunError


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[]", "list"),
        ("null", "NoneType"),
        ('{"splits": []}', "splits"),
        ('{"splits": null}', "splits"),
        ('{"splits": {"test": 3}}', "splits.test"),
        ('{"splits": {"test": {"accuracy": "high"}}}', "splits.test.accuracy"),
        ('{"splits": {"test": {"accuracy_ci95": [0.1]}}}', "splits.test.accuracy_ci95"),
        ('{"timing_s": {"tail": "long"}}', "timing_s.tail"),
        ('{"warnings": "none"}', "warnings"),
        ('{"multi_label": 1}', "multi_label"),
        ('{"verdict": {"sentences": 1}}', "verdict.sentences"),
        ("[" * 50_000, "metrics.json"),
    ],
)
def test_metrics_of_other_types_are_named(content: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(RunError, match=r"metrics\.json") as caught:
        RunDir(tmp_path).read_metrics()
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("settings = 3", "settings"),
        ("[settings]\nbackbone = 3", "settings.backbone"),
        ("[settings]\nlabel_separator = []", "settings.label_separator"),
        ("trunk = 'a'", "trunk"),
        ("fingerprint = 1", "fingerprint"),
        ("[label_counts]\nham = 'many'", "label_counts.ham"),
        ("a = " + "[" * 5000, "run.toml"),
    ],
)
def test_a_run_toml_of_other_types_is_named(content: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(content)
    with pytest.raises(RunError, match=r"run\.toml") as caught:
        RunDir(tmp_path).read_toml()
    assert named in str(caught.value)
