"""Fetching a data set or a backbone by its name: one function for both catalogs."""

from __future__ import annotations

from pathlib import Path

from lasttoken.backbone.catalog import BACKBONES, FORMER
from lasttoken.backbone.pretrained import locate_backbone
from lasttoken.core.config import BACKBONE_NAMES
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.progress import Reporter
from lasttoken.data.catalog import DATASETS
from lasttoken.data.datasets import fetch_dataset


def catalog() -> dict[str, str]:
    """The names of all data sets and backbones, with their descriptions."""
    return {name: entry.description for entries in (DATASETS, BACKBONES) for name, entry in entries.items()}


def check_name(name: str) -> None:
    """Reject a name that is neither in a catalog nor a hub id.

    Raises:
        SettingsError: names the closest entries.
    """
    if name not in catalog() and name not in FORMER and "/" not in name:
        raise SettingsError(
            f"there is no {name!r} to fetch; use a data set ({one_of(DATASETS)}), or a backbone: {BACKBONE_NAMES}"
            f"{nearest(name, catalog())}"
        )


def fetch(name: str, *, offline: bool = False, reporter: Reporter | None = None) -> Path:
    """The path of a data set's file, of a backbone's folder or of its GGUF file; fetched and checked if not cached.

    Raises:
        SettingsError, BackboneError, DataError: an unknown name, or a file that is not the published one.
        NetworkError: offline, unreachable or interrupted.
        StorageError: no permission, or a full disk.
    """
    check_name(name)
    reporter = reporter or Reporter()
    if name in DATASETS:
        with reporter.bytes_bar(f"fetching {name}") as progress:
            return fetch_dataset(name, offline=offline, progress=progress)
    return locate_backbone(name, offline, reporter)
