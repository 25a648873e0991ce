"""Splitting a labelled file into train, validation and test files, checked by the audit.

data.csv ─► balance, split ─► audit: what it finds is reported ─► out/train.csv, out/validation.csv, out/test.csv
"""

from __future__ import annotations

from pathlib import Path

from lasttoken.audit.collecting import audit_splits
from lasttoken.core.config import Settings
from lasttoken.core.errors import UserError
from lasttoken.core.locks import exclusive
from lasttoken.core.progress import Reporter
from lasttoken.core.storage import dangling_link
from lasttoken.data.files import Examples
from lasttoken.data.folders import write_splits
from lasttoken.data.gather import gather_splits
from lasttoken.data.splitting.splits import SPLIT_NAMES, Splits


def gather_and_audit(data: Path | Examples, settings: Settings, reporter: Reporter) -> Splits:
    """The splits of a file, a folder or examples; what the audit finds in them is reported.

    Raises:
        DataError: data that cannot be read or split.
    """
    splits = gather_splits(data, settings, reporter.say)
    for finding in audit_splits(splits.named()).findings():
        reporter.say(finding)
    return splits


def split_data(
    data: Path | Examples, settings: Settings, out: Path, *, overwrite: bool = False, reporter: Reporter | None = None
) -> Splits:
    """Balance and split data as a training with these settings would, and write each split to a file in `out`.

    Raises:
        UserError: data that cannot be split, or an `out` that is a file, a dangling link or holds such files already
            (without `overwrite`); nothing has been written then.
        RunError: another process works on `out`.
        StorageError: no permission, or a full disk.
    """
    if out.is_file():
        raise UserError(f"--out {out} is a file; give a folder")
    if target := dangling_link(out):
        raise UserError(f"--out {out} is a link to {target}, which does not exist; create that folder first")
    with exclusive(out):
        existing = [name for name in SPLIT_NAMES if (out / f"{name}.csv").exists()]
        if existing and not overwrite:
            raise UserError(f"{out} already holds {existing[0]}.csv; pass --overwrite to replace it, or another --out")
        splits = gather_and_audit(data, settings, reporter or Reporter())
        write_splits(splits, out, book=settings.handling.numbered_labels)
    return splits
