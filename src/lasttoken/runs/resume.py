"""Resuming a run that was killed: whether its folder holds one, its splits, and whether it is the same training.

--resume ─► run.toml and splits/ are there ─► the data files are the same ─► splits are read from the run
                                                                         └► its fingerprint is the same

The state of the training itself is in resume.safetensors, see training/resume.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lasttoken.classifier.run_dir import RunDir
from lasttoken.core.columns import SPLIT_COLUMNS, ColumnSpec
from lasttoken.core.config import Settings
from lasttoken.core.errors import RunError, SettingsError
from lasttoken.core.progress import Reporter
from lasttoken.data.columns import Columns
from lasttoken.data.files import Examples
from lasttoken.data.folders import read_splits
from lasttoken.data.origin import compare_origins
from lasttoken.data.splitting.splits import Splits


def can_resume(run_dir: RunDir | None, reporter: Reporter) -> bool:
    """Whether the folder holds a run to resume; if not, a sentence says so.

    Raises:
        SettingsError: no folder.
        RunError: a finished run.
    """
    if run_dir is None:
        raise SettingsError("--resume needs --out, the directory of the run to resume")
    if run_dir.is_finished:
        raise RunError(
            f"{run_dir.path} is finished; there is nothing to resume (to train it anew, pass --overwrite alone)"
        )
    if run_dir.is_resumable:
        return True
    reporter.say(f"nothing to resume in {run_dir.path}: training starts from the beginning")
    return False


def check_data(run_dir: RunDir, data: Path | Examples | None, settings: Settings, reporter: Reporter) -> None:
    """Compare the data files with those that the run was started with, and say which files are not read again.

    Raises:
        RunError: another file.
    """
    content = run_dir.read_toml()
    recorded = content.get("origin", {})
    if "origin" not in content and (name := content.get("settings", {}).get("data")):  # a run of an earlier version
        file = data if isinstance(data, Path) and data.name == Path(name).name else Path(name)
        recorded = {"data": {"path": str(file.resolve())}}
    for note in compare_origins(recorded, data_files(data, settings), run_dir.path):
        reporter.say(note)


def data_files(data: Path | Examples | None, settings: Settings) -> dict[str, Path]:
    """The files of the data, by "data", "validation" and "test"."""
    files = {"data": data, "validation": settings.validation, "test": settings.test}
    return {name: Path(file) for name, file in files.items() if isinstance(file, str | Path)}


def read_run_splits(run_dir: RunDir, settings: Settings) -> Splits:
    """The splits that the run was started with, with the facts about them in run.toml."""
    columns = replace(SPLIT_COLUMNS, slice_by="slice" if settings.slice_by else None)
    splits = read_splits(run_dir.splits, columns, separator=settings.separator)
    content = run_dir.read_toml()
    original = ColumnSpec.from_json(content.get("columns", {}))  # of the data; the files in splits/ have our own
    train = replace(splits.train, columns=Columns(original) if original else None)
    facts = dict(content.get("data_facts", {}))
    notes = tuple(facts.pop("notes", ()))
    return replace(
        splits,
        train=train,
        label_counts=content.get("label_counts"),
        notes=notes,
        facts=facts,
        validation_is_cut=bool(content.get("validation_is_cut")),
    )


def check_fingerprint(run_dir: RunDir, fingerprint: str) -> None:
    """Reject a training that differs from the one that the run was started with.

    Raises:
        RunError: other data, settings or weights.
    """
    if run_dir.read_toml().get("fingerprint") != fingerprint:
        raise RunError(
            f"{run_dir.path} was started with other data, settings or weights than these; "
            "resume with those it was started with, or train into another --out"
        )
