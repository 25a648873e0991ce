"""Fetching a data set or a backbone by its name: one function for both catalogs."""

from __future__ import annotations

from pathlib import Path

from lasttoken.backbone.catalog import BACKBONES
from lasttoken.backbone.hub import fetch_backbone
from lasttoken.backbone.pretrained import locate_backbone
from lasttoken.core.errors import SettingsError, nearest, one_of
from lasttoken.core.progress import Reporter
from lasttoken.data.catalog import DATASETS
from lasttoken.data.datasets import fetch_dataset

BAR_UNITS = 1_000_000  # a bar's length, whatever the size of the download


def catalog() -> dict[str, str]:
    """The names of all data sets and backbones, with their descriptions."""
    return {name: entry.description for entries in (DATASETS, BACKBONES) for name, entry in entries.items()}


def check_name(name: str) -> None:
    """Reject a name that is neither in a catalog nor a hub id.

    Raises:
        SettingsError: names the closest entries.
    """
    if name not in catalog() and "/" not in name:
        raise SettingsError(
            f"there is no {name!r} to fetch; use {one_of(catalog())}, or a hub id{nearest(name, catalog())}"
        )


def fetch(name: str, *, offline: bool = False, reporter: Reporter | None = None) -> Path:
    """The path of a data set's file or a backbone's folder, downloaded and checked if it is not in the cache yet.

    Raises:
        SettingsError, BackboneError, DataError: an unknown name, or a file that is not the published one.
        NetworkError: offline, unreachable or interrupted.
        StorageError: no permission, or a full disk.
    """
    check_name(name)
    if name in DATASETS:
        return _fetch_with_bar(name, offline, reporter or Reporter())
    if name == "pocket":
        return locate_backbone(name)
    return fetch_backbone(name, offline=offline)


def _fetch_with_bar(name: str, offline: bool, reporter: Reporter) -> Path:
    with reporter.bar(f"fetching {name}", BAR_UNITS) as advance:
        position = 0

        def progress(n_bytes: int, total: int | None) -> None:
            nonlocal position
            scaled = int(n_bytes / total * BAR_UNITS) if total else position
            advance(scaled - position, f"{n_bytes:,} bytes")
            position = scaled

        return fetch_dataset(name, offline=offline, progress=progress)
