"""The settings of a run: flags, --config and the run that is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli_w

from lasttoken.core.errors import RunError
from lasttoken.core.resolve import resolve
from lasttoken.runs.settings import run_settings


def record(folder: Path, **settings: object) -> Path:
    folder.mkdir()
    (folder / "run.toml").write_text(tomli_w.dumps({"settings": settings}), "utf-8")
    return folder


def test_flags_win_over_config_which_wins_over_the_resumed_run(tmp_path: Path) -> None:
    run = record(tmp_path / "run", **resolve("book", {"epochs": 9, "seed": 9, "patience": 9}).to_toml())
    settings = run_settings({"epochs": 1}, {"epochs": 2, "seed": 2}, resumed=run)
    assert (settings.recipe, settings.epochs, settings.seed, settings.patience) == ("book", 1, 2, 9)
    assert run_settings({"recipe": "default"}, {"recipe": "book"}).recipe == "default"


def test_without_a_record_nothing_is_resumed(tmp_path: Path) -> None:
    assert run_settings({}, resumed=tmp_path / "none") == resolve()


def test_a_record_of_another_version_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run\.toml.*'epocs'"):
        run_settings({}, resumed=record(tmp_path / "run", epocs=2))
